package autoscaler

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"adt/events"
	"adt/lock"
	"adt/rundir"
)

// rebootTries is how often a reboot command that fails is run.
const rebootTries = 3

// rebootTimeout bounds the reboot command itself.
const rebootTimeout = 30 * time.Second

// Reboot is the record reboot.json: a reboot that is due. It outlives the
// reboot, and the boot id tells whether that took place.
type Reboot struct {
	Version int    `json:"version"`
	BootID  string `json:"boot_id"` // of the boot that shall end
	Tries   int    `json:"tries"`
}

// RebootPlan says what RebootIfDone would do now; "" is nothing.
func (a *Autoscaler) RebootPlan() (string, error) {
	var r Reboot
	due, err := a.Dir.Read(rebootFile, &r)
	if err != nil {
		return "", err
	}
	builds, err := a.Builds()
	if err != nil {
		return "", err
	}
	c, err := a.cycle()
	switch {
	case err != nil:
		return "", err
	case due && r.BootID != a.BootID:
		return "forget the reboot that has taken place", nil
	case c != nil && len(builds) == 0:
		return "end the cycle and reboot: " + a.rebootText(), nil
	case c != nil && age(a.Now(), c.Started) > a.CycleLimit:
		return fmt.Sprintf("end the cycle, older than %s with %d builds left, and reboot: %s", a.CycleLimit, len(builds), a.rebootText()), nil
	case due && len(builds) == 0:
		return "reboot: " + a.rebootText(), nil
	}
	return "", nil
}

func (a *Autoscaler) rebootText() string {
	if len(a.RebootCommand) == 0 {
		return "no command is configured, an event is written"
	}
	return strings.Join(a.RebootCommand, " ")
}

// RebootIfDone ends a cycle that has no build left, and reboots this machine so
// that the next command starts from a clean one. Each step is recorded before
// the next: killed anywhere, and across the reboot itself, the next run goes on
// from there, and the machine reboots once. cron starts all ticks in the same
// second, so it waits for a scale and a health check that run, for as long as a
// tick may take (Budget); after that the error wraps lock.ErrHeld.
func (a *Autoscaler) RebootIfDone(ctx context.Context) (did string, err error) {
	if did, err = a.RebootPlan(); did == "" || err != nil {
		return "", err
	}
	patience, cancel := context.WithTimeout(ctx, a.Budget)
	defer cancel()
	for _, name := range []string{scaleLock, healthLock} {
		release, err := lock.Wait(patience, a.Dir.Path(name))
		if err != nil {
			return "", err
		}
		defer release()
	}
	// Again: the run that was waited for may have changed it.
	if did, err = a.RebootPlan(); did == "" || err != nil {
		return "", err
	}
	var r Reboot
	due, err := a.Dir.Read(rebootFile, &r)
	if err != nil {
		return "", err
	}
	if due && r.BootID != a.BootID {
		a.event(events.RebootDone, "", "the machine has booted")
		return did, a.Dir.Remove(rebootFile)
	}
	if err := a.endCycle(); err != nil {
		return "", err
	}
	return did, a.reboot(ctx)
}

// endCycle records that a reboot is due and opens the door for the next
// command.
func (a *Autoscaler) endCycle() error {
	c, err := a.cycle()
	if c == nil || err != nil {
		return err
	}
	builds, err := a.Builds()
	if err != nil {
		return err
	}
	if a.Home == nil { // of a shard that was taken over, only the cycle ends
		if err := a.Dir.Write(rebootFile, Reboot{Version: rundir.Version, BootID: a.BootID}); err != nil {
			return err
		}
	}
	if err := a.Dir.Mark(authorised); err != nil {
		return err
	}
	if err := a.Dir.Remove(cycleFile); err != nil {
		return err
	}
	took := age(a.Now(), c.Started).Round(time.Second)
	if len(builds) > 0 {
		a.event(events.CycleOverdue, "", "ended after %s with %d builds left", took, len(builds))
	} else {
		a.event(events.CycleEnded, "", "towards %d, after %s", c.Profile, took)
	}
	return nil
}

func (a *Autoscaler) reboot(ctx context.Context) error {
	var r Reboot
	if due, err := a.Dir.Read(rebootFile, &r); !due || err != nil {
		return err
	}
	if len(a.RebootCommand) == 0 {
		a.event(events.RebootSkipped, "", "a reboot was due, and none is configured")
		return a.Dir.Remove(rebootFile)
	}
	// Counted before it is tried: a command that kills us is not tried for ever.
	r.Tries++
	if err := a.Dir.Write(rebootFile, r); err != nil {
		return err
	}
	if r.Tries > rebootTries {
		return a.Dir.Remove(rebootFile)
	}
	a.event(events.RebootStarted, "", "%s", strings.Join(a.RebootCommand, " "))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, a.RebootCommand[0], a.RebootCommand[1:]...).CombinedOutput()
	if err != nil {
		a.event(events.RebootFailed, "", "try %d of %d: %v: %s", r.Tries, rebootTries, err, strings.TrimSpace(string(out)))
		return nil
	}
	return a.Dir.Remove(rebootFile)
}
