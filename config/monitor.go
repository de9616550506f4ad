package config

import "time"

// Monitor is when adt monitor raises an alarm about this machine.
type Monitor struct {
	Window          Duration `toml:"window" doc:"How long something has to last before there is an alarm, and to be over before that is said; 0s takes a single look." min:"0s" max:"1h"`
	CPUOverloaded   int      `toml:"cpu_overloaded" doc:"From how many percent of CPU use on this machine is published as overloaded (the original's idle below 25 %)." min:"0" max:"100"`
	CPU             int      `toml:"cpu" doc:"From how many percent of CPU use on there is an alarm (the original's idle below 5 %)." min:"0" max:"100"`
	LoadBusy        int      `toml:"load_busy" doc:"From how many percent of CPU use on a minute counts as busy." min:"0" max:"100"`
	LoadShare       int      `toml:"load_share" doc:"When more than so many percent of the minutes of an hour were busy there is an alarm (the original's quarter)." min:"0" max:"100"`
	MemoryAvailable int      `toml:"memory_available" doc:"With at most so many percent of the memory available there is an alarm; the original compares 10 MB of free memory, which caches take on every healthy machine." min:"0" max:"100"`
	Disk            int      `toml:"disk" doc:"From how many percent of a disk used on there is an alarm, as in the original." min:"0" max:"100"`
	Inodes          int      `toml:"inodes" doc:"From how many percent of a disk's inodes used on there is an alarm." min:"0" max:"100"`
	NetworkErrors   int      `toml:"network_errors" doc:"From how many percent of packets with errors on there is an alarm." min:"1" max:"100"`
	Synchronised    bool     `toml:"synchronised" doc:"Whether there is an alarm when the kernel says that nobody sets the clock; false where the hypervisor does."`
	Acknowledge     Duration `toml:"acknowledge" doc:"For how long an alarm that lasts is not said again, as in the original." min:"0s" max:"365d"`
}

func monitorDefaults() Monitor {
	return Monitor{
		Window: Duration(5 * time.Minute), CPUOverloaded: 75, CPU: 95, LoadBusy: 90, LoadShare: 25,
		MemoryAvailable: 5, Disk: 90, Inodes: 90, NetworkErrors: 1, Synchronised: true, Acknowledge: Duration(24 * time.Hour),
	}
}
