package autoscaler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"adt/events"
	"adt/rundir"
)

// What can be paused.
const (
	PauseScale     = "scale"     // no build begins, nothing above the profile goes
	PauseTerminate = "terminate" // nothing is terminated
	PauseDNS       = "dns"       // nothing is published or withdrawn
)

// Pausable lists what can be paused, in the order in which it is shown.
func Pausable() []string { return []string{PauseScale, PauseTerminate, PauseDNS} }

// Pause is one thing that an operator put on hold.
type Pause struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is resumed
}

type pauses struct {
	Version int              `json:"version"`
	Paused  map[string]Pause `json:"paused"`
}

// Pauses returns what is on hold now. A pause file that cannot be understood
// pauses everything: somebody wanted something to stop.
func (a *Autoscaler) Pauses(ctx context.Context) (map[string]Pause, error) {
	var rec pauses
	_, there, err := a.home().Exists(pausesFile)
	if err != nil {
		return nil, err
	}
	found, err := a.home().Read(pausesFile, &rec)
	if err != nil {
		return nil, err
	}
	if there && !found {
		return a.pauseAll(ctx, pausesFile)
	}
	now := a.Now()
	maps.DeleteFunc(rec.Paused, func(_ string, p Pause) bool { return !p.Until.IsZero() && !now.Before(p.Until) })
	return rec.Paused, nil
}

// pauseAll is what happens when a file that held back destruction is lost.
func (a *Autoscaler) pauseAll(ctx context.Context, lost string) (map[string]Pause, error) {
	err := a.Pause(ctx, Pausable(), fmt.Sprintf("%s was corrupt: look at the file set aside, then adt resume", lost), 0)
	if err != nil {
		return nil, err
	}
	return a.Pauses(ctx)
}

// Pause puts things on hold, for a time or (0) until they are resumed.
func (a *Autoscaler) Pause(ctx context.Context, what []string, reason string, length time.Duration) error {
	if _, err := a.Pauses(ctx); err != nil { // what cannot be understood is not written over
		return err
	}
	return a.change(ctx, func() error {
		var rec pauses
		if _, err := a.home().Read(pausesFile, &rec); err != nil {
			return err
		}
		if rec.Paused == nil {
			rec.Paused = map[string]Pause{}
		}
		rec.Version = rundir.Version
		p := Pause{Reason: reason, Since: a.Now()}
		until := "until adt resume"
		if length > 0 {
			p.Until = p.Since.Add(length)
			until = "for " + length.String()
		}
		for _, w := range what {
			rec.Paused[w] = p
		}
		if err := a.home().Write(pausesFile, rec); err != nil {
			return err
		}
		a.event(events.Paused, "", "%s paused %s: %s", strings.Join(what, ", "), until, reason)
		for _, w := range what {
			a.tell(ctx, shardKey(a.Shard, pausedWord, w), true)
		}
		return nil
	})
}

// Resume lifts pauses, and with that of scale the stop after failed builds. It
// returns what was lifted.
func (a *Autoscaler) Resume(ctx context.Context, what []string) ([]string, error) {
	if _, err := a.Pauses(ctx); err != nil { // as Pause
		return nil, err
	}
	var lifted []string
	err := a.change(ctx, func() error {
		var rec pauses
		if _, err := a.home().Read(pausesFile, &rec); err != nil {
			return err
		}
		for _, w := range what {
			if _, ok := rec.Paused[w]; ok {
				delete(rec.Paused, w)
				lifted = append(lifted, w)
			}
			if err := a.untell(ctx, w); err != nil {
				return err
			}
		}
		if len(lifted) > 0 {
			if err := a.home().Write(pausesFile, rec); err != nil {
				return err
			}
		}
		if slices.Contains(what, PauseScale) {
			var b Backoff
			found, err := a.Dir.Read(backoffFile, &b)
			if err != nil {
				return err
			}
			if found {
				lifted = append(lifted, fmt.Sprintf("backoff after %d failed builds", b.Failures))
				if err := a.Dir.Remove(backoffFile); err != nil {
					return err
				}
			}
		}
		if len(lifted) > 0 {
			a.event(events.Resumed, "", "%s resumed", strings.Join(lifted, ", "))
		}
		return nil
	})
	return lifted, err
}

type guards struct {
	Version   int             `json:"version"`
	Protected map[string]bool `json:"protected"` // by server name
}

// Protected returns the names of webservers that are never terminated. If that
// is lost, terminating is paused.
func (a *Autoscaler) Protected(ctx context.Context) (map[string]bool, error) {
	_, there, err := a.home().Exists(guardsFile)
	if err != nil {
		return nil, err
	}
	rec, found, err := a.guards()
	if err != nil {
		return nil, err
	}
	if there && !found {
		_, err := a.pauseAll(ctx, guardsFile)
		return nil, err
	}
	if a.board != nil {
		if rec.Protected == nil {
			rec.Protected = map[string]bool{}
		}
		maps.Copy(rec.Protected, a.board.posts[a.Shard].protected)
	}
	return rec.Protected, nil
}

func (a *Autoscaler) guards() (rec guards, found bool, err error) {
	found, err = a.home().Read(guardsFile, &rec)
	return rec, found, err
}

// Protect protects a webserver, or (on is false) lifts the protection. A termination that has not reached the
// point of no return is called off.
func (a *Autoscaler) Protect(ctx context.Context, name string, on bool) error {
	if _, err := a.Protected(ctx); err != nil { // as Pause
		return err
	}
	return a.change(ctx, func() error {
		rec, _, err := a.guards()
		if err != nil {
			return err
		}
		if rec.Protected == nil {
			rec.Protected = map[string]bool{}
		}
		rec.Version = rundir.Version
		if rec.Protected[name] == on {
			return nil
		}
		if on {
			rec.Protected[name] = true
		} else {
			delete(rec.Protected, name)
		}
		if err := a.home().Write(guardsFile, rec); err != nil {
			return err
		}
		if n, ok := a.Fleet.Parse(name); ok {
			a.tell(ctx, shardKey(n.Shard, protectedWord, name), on)
		}
		if on {
			a.event(events.Protected, name, "protected from termination")
		} else {
			a.event(events.Unprotected, name, "may be terminated again")
		}
		return nil
	})
}

// holds says why scaling, terminating and publishing are on hold; "" is not.
type holds struct{ scale, end, dns string }

func (a *Autoscaler) holds(ctx context.Context) (holds, error) {
	paused, err := a.Pauses(ctx)
	if err != nil {
		return holds{}, err
	}
	text := func(what string) string {
		if p, ok := paused[what]; ok {
			return what + " is paused: " + p.Reason
		}
		if a.board != nil {
			if _, ok := a.board.posts[a.Shard].paused[what]; ok && a.Home != nil {
				return what + " was paused on the autoscaler whose webserver it is"
			}
		}
		return ""
	}
	h := holds{scale: text(PauseScale), end: text(PauseTerminate), dns: text(PauseDNS)}
	if a.silent.Load() {
		h.end = "the datastore does not answer"
	}
	if why := a.hold.Load(); why != nil {
		h.scale, h.end = *why, *why
	}
	return h, nil
}

// untell takes a pause out of the datastore: of the own webservers, and of those
// that were taken over from an autoscaler that was paused.
func (a *Autoscaler) untell(ctx context.Context, what string) error {
	guests, err := a.Guests()
	if err != nil {
		return err
	}
	for _, shard := range append(guests, a.Shard) {
		a.tell(ctx, shardKey(shard, pausedWord, what), false)
	}
	return nil
}

// tellPauses makes the datastore agree with what is paused here: a pause may have
// run out.
func (a *Autoscaler) tellPauses(ctx context.Context, told map[string]struct{}) error {
	if len(told) == 0 {
		return nil
	}
	paused, err := a.Pauses(ctx)
	if err != nil {
		return err
	}
	for what := range told {
		if _, still := paused[what]; !still {
			a.tell(ctx, shardKey(a.Shard, pausedWord, what), false)
		}
	}
	return nil
}

// tell puts what an operator decided into the datastore, for whoever keeps the
// shard when this machine does not, or takes it out again.
func (a *Autoscaler) tell(ctx context.Context, key string, on bool) {
	if a.Lease == 0 {
		return
	}
	var err error
	if on {
		err = a.Profiles.Store.Put(ctx, a.Profiles.Bucket, key, nil)
	} else {
		err = a.Profiles.Store.Delete(ctx, a.Profiles.Bucket, key)
	}
	if err != nil {
		a.storeFault(fmt.Errorf("other autoscalers do not know it: %w", err))
	}
}
