package config

import "time"

// Housekeeping is what adt housekeeping throws away.
type Housekeeping struct {
	CompressAfter     Duration `toml:"compress_after" doc:"How long after its end a day of events or history is compressed; 0s never does." min:"0s" max:"365d"`
	KeepLogs          Duration `toml:"keep_logs" doc:"How long logs and events are kept, as in the original; 0s keeps them for ever." min:"0s" max:"3650d"`
	KeepHistory       Duration `toml:"keep_history" doc:"How long the samples are kept that adt history draws; 0s keeps them for ever." min:"0s" max:"3650d"`
	KeepPostMortems   Duration `toml:"keep_post_mortems" doc:"How long post-mortems are kept; 0s keeps them for ever." min:"0s" max:"3650d"`
	MaxPostMortemsMiB int      `toml:"max_post_mortems_mib" doc:"How much all post-mortems together may take, in MiB; beyond that the oldest go, the newest never. 0 is no limit." min:"0" max:"1000000"`
	KeepCorrupt       Duration `toml:"keep_corrupt" doc:"How long state files are kept that were garbage and were set aside; 0s keeps them for ever." min:"0s" max:"3650d"`
	KeepGuests        Duration `toml:"keep_guests" doc:"How long the records of a taken-over shard are kept after its last use; 0s keeps them for ever." min:"0s" max:"3650d"`
	AddressesAfter    Duration `toml:"addresses_after" doc:"How long an address of ours has to be gone from the provider's listing before it is deleted from the datastore; 0s deletes none." min:"0s" max:"365d"`
}

func housekeepingDefaults() Housekeeping {
	const day = Duration(24 * time.Hour)
	return Housekeeping{
		CompressAfter: day, KeepLogs: 7 * day, KeepHistory: 35 * day, KeepPostMortems: 30 * day, MaxPostMortemsMiB: 200,
		KeepCorrupt: 30 * day, KeepGuests: 7 * day, AddressesAfter: day,
	}
}
