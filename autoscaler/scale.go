package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"adt/events"
	"adt/lock"
	"adt/rundir"
)

// Report is what a run found and did.
type Report struct {
	Actions []Action `json:"actions"`
	Held    bool     `json:"held"` // something was due and a rule forbade it
	Builds  int      `json:"builds"`
	Ends    int      `json:"terminations"`
}

// held reports whether a hold is among the actions.
func held(actions []Action) bool {
	for _, a := range actions {
		if a.Kind == Hold {
			return true
		}
	}
	return false
}

// ScalePlan says what Scale would do now, and changes nothing.
func (a *Autoscaler) ScalePlan(ctx context.Context) (Report, error) {
	a.preview = &Inventory{}
	defer func() { a.preview = nil }()
	o, err := a.observe(ctx)
	if err != nil {
		return Report{}, err
	}
	o.Reached = o.reached(a.Rules)
	actions := Plan(a.Now(), a.Rules, o)
	return Report{Actions: actions, Held: held(actions), Builds: len(o.Builds), Ends: len(o.Terminations)}, nil
}

// Scale is one tick: observe, plan, record what is to be done, and carry all
// builds and terminations on until they are done or the budget is spent. The
// next tick resumes from the records. The error wraps lock.ErrHeld when
// another scale runs.
func (a *Autoscaler) Scale(ctx context.Context) (Report, error) {
	release, err := a.lock(scaleLock)
	if err != nil {
		return Report{}, err
	}
	defer release()
	deadline := a.Now().Add(a.Budget)

	if err := a.settleMarkers(); err != nil {
		return Report{}, err
	}
	o, err := a.observe(ctx)
	if err != nil {
		return Report{}, err
	}
	if len(o.Stale) > 0 && a.mayAct(ctx) == nil {
		if err := a.Profiles.Tidy(ctx, a.Shard, o.Stale); err != nil {
			a.storeFault(fmt.Errorf("deleting stale profiles: %w", err))
		}
	}
	if err := a.profileSeen(o); err != nil {
		return Report{}, err
	}
	if o.Silent == "" && a.Home == nil {
		if err := a.announce(ctx); err != nil {
			return Report{}, err
		}
	}
	if reached := o.reached(a.Rules); reached != o.Reached {
		o.Reached = reached
		if err := a.remember(ctx, func(inv *Inventory) bool { inv.Reached = reached; return true }); err != nil {
			return Report{}, err
		}
	}
	report := Report{Actions: Plan(a.Now(), a.Rules, o)}
	report.Held = held(report.Actions)
	if err := a.record(ctx, o, report.Actions); err != nil {
		return report, err
	}
	builds, ends, err := a.inProgress()
	if err != nil {
		return report, err
	}
	a.noteOthers(o.Servers)
	worked := a.carryOn(ctx, deadline, builds, ends)
	admitted := a.tendAllowList(ctx)
	if errors.Is(admitted, errWait) {
		admitted = nil // it was recorded, and the next tick goes on
	}
	builds, ends, err = a.inProgress()
	report.Builds, report.Ends = len(builds), len(ends)
	return report, errors.Join(worked, admitted, err)
}

// inProgress returns the records of all builds and terminations.
func (a *Autoscaler) inProgress() ([]Build, []Termination, error) {
	builds, err := a.Builds()
	if err != nil {
		return nil, nil, err
	}
	ends, err := a.Terminations()
	return builds, ends, err
}

// settleMarkers makes the authorisation markers agree with the cycle.
func (a *Autoscaler) settleMarkers() error {
	c, err := a.cycle()
	if err != nil {
		return err
	}
	_, open, err := a.Dir.Exists(authorised)
	if err != nil {
		return err
	}
	switch {
	case c == nil && !open:
		return a.Dir.Mark(authorised)
	case c != nil && open:
		return a.Dir.Unmark(authorised)
	}
	return nil
}

// profileSeen keeps scaling/STATIC_SCALE:<count> as the shell toolkit does: the
// last profile that was seen here. It says so once when a new command has to
// wait for the end of a cycle.
func (a *Autoscaler) profileSeen(o Observation) error {
	if o.Profile == nil {
		return nil
	}
	const folder = "scaling/"
	marker := ProfileKey(a.Shard, o.Profile.Count)
	marker = folder + marker[len(profilePrefix(a.Shard))-len("STATIC_SCALE:"):]
	if _, there, err := a.Dir.Exists(marker); there || err != nil {
		return err
	}
	old, err := a.Dir.Names(folder, "STATIC_SCALE:")
	if err != nil {
		return err
	}
	if err := a.Dir.Mark(marker); err != nil {
		return err
	}
	for _, name := range old {
		if err := a.Dir.Unmark(folder + name); err != nil {
			return err
		}
	}
	if o.Cycle != nil && o.Cycle.Profile != o.Profile.Count {
		a.event(events.CommandStored, "", "profile %d is taken when the cycle towards %d has ended", o.Profile.Count, o.Cycle.Profile)
	}
	return nil
}

// record writes down what the plan wants done, before any of it is done.
func (a *Autoscaler) record(ctx context.Context, o Observation, actions []Action) error {
	now := a.Now()
	taken := map[string]bool{}
	for _, s := range o.Servers {
		taken[s.Name] = true
	}
	for _, act := range actions {
		switch act.Kind {
		case StartCycle:
			if err := a.Dir.Write(cycleFile, Cycle{Version: rundir.Version, Started: now, Profile: act.Count}); err != nil {
				return err
			}
			if err := a.Dir.Unmark(authorised); err != nil {
				return err
			}
			a.event(events.CycleStarted, "", "%s", act.Why)
		case StartBuild:
			name := a.Fleet.Name(a.Shard, RandomTail(a.IntN))
			for taken[name] {
				name = a.Fleet.Name(a.Shard, RandomTail(a.IntN))
			}
			taken[name] = true
			b := Build{Version: rundir.Version, N: act.N, Name: name, Phase: Named, Began: now, Since: now}
			if err := a.Dir.Create(buildFile(act.N), b); err != nil {
				return err
			}
			a.event(events.BuildStarted, name, "build %d", act.N)
		case StartEnd:
			for _, s := range o.Servers {
				if s.ID == act.ID {
					if err := a.startEnd(ctx, s, act.Cause, Decided, act.Why); err != nil {
						return err
					}
				}
			}
		case Proceed:
			if err := a.proceed(ctx, act); err != nil {
				return err
			}
		case Hold:
			a.event(act.Reason, act.Name, "%s", act.Why)
		}
	}
	return nil
}

// proceed lets a termination go on that waited for a replacement.
func (a *Autoscaler) proceed(ctx context.Context, act Action) error {
	return a.change(ctx, func() error {
		t, found, err := a.termination(act.ID)
		if err != nil || !found || t.Phase != Waiting {
			return err
		}
		t.Phase, t.Since = Decided, a.Now()
		if err := a.Dir.Write(endFile(t.ID), t); err != nil {
			return err
		}
		a.event(events.TerminationPhase, t.Name, "%s: %s", Decided, act.Why)
		return nil
	})
}

// carryOn works on builds and terminations at once, each at its own pace, until
// none is left that can go on or the deadline has come. The caller holds the
// lock of scale.
func (a *Autoscaler) carryOn(ctx context.Context, deadline time.Time, builds []Build, ends []Termination) error {
	if len(builds)+len(ends) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deadline.Sub(a.Now()))
	defer cancel()
	l := a.looks()
	gate := make(chan struct{}, max(1, a.Creates))
	var wg sync.WaitGroup
	errs := make([]error, len(builds)+len(ends))
	for i, b := range builds {
		w := &builder{Autoscaler: a, Build: b, looks: l, gate: gate}
		wg.Go(func() {
			defer w.hangUp()
			errs[i] = a.poll(ctx, w.carryOn)
		})
	}
	for i, t := range ends {
		w := &ender{Autoscaler: a, Termination: t, looks: l}
		wg.Go(func() {
			defer w.hangUp()
			errs[len(builds)+i] = a.poll(ctx, func(ctx context.Context) (bool, error) {
				done, err := w.carryOn(ctx)
				// Nothing that happens in this run lets a waiting one go on.
				return done || w.Phase == Waiting, err
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// poll repeats a step until it is done or ctx ends, which is no error: the next
// tick goes on. An error that is no waiting ends it.
func (a *Autoscaler) poll(ctx context.Context, step func(context.Context) (bool, error)) error {
	for {
		if err := a.mayAct(ctx); err != nil {
			return err
		}
		done, err := step(ctx)
		switch {
		case err != nil && ctx.Err() != nil && (errors.Is(err, lock.ErrHeld) || errors.Is(err, ctx.Err())):
			return nil // it did not come to its turn in this tick
		case err != nil && !errors.Is(err, errWait):
			return err
		case done:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.Poll):
		}
	}
}
