package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"adt/events"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
)

// destroyAgain is after how long a server that is still listed is destroyed
// once more: the provider said yes and did nothing.
const destroyAgain = 2 * time.Minute

// startEnd records that a server shall go. Whoever records it first owns its
// end; that it is recorded already is no error.
func (a *Autoscaler) startEnd(ctx context.Context, s provider.Server, cause Cause, phase Phase, why string) error {
	now := a.Now()
	t := Termination{Version: rundir.Version, ID: s.ID, Name: s.Name, PublicIP: s.PublicIP, PrivateIP: s.PrivateIP,
		Cause: cause, Phase: phase, Began: now, Since: now, Why: why, Created: s.Created}
	err := a.change(ctx, func() error {
		rec, _, err := a.guards()
		if err != nil {
			return err
		}
		if n, ok := a.Fleet.Parse(s.Name); !ok || n.Shard != a.Shard || n.Initial || rec.Protected[s.Name] {
			return fmt.Errorf("%s is foreign, initial or protected and must not be terminated", s.Name)
		}
		return a.Dir.Create(endFile(s.ID), t)
	})
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a.event(events.TerminationStart, s.Name, "%s (%s)", why, cause)
	return nil
}

// ender carries one termination on.
type ender struct {
	*Autoscaler
	Termination
	looks    *looks
	examined bool // in this run
	// conn is to the server, for its post-mortem and its shutdown; deaf is why there
	// is none, which is waited for once.
	conn *remote.Conn
	deaf error
}

// dial connects to the server, once in a run.
func (e *ender) dial(ctx context.Context, private netip.Addr) (*remote.Conn, error) {
	if e.conn != nil && e.conn.Lost() {
		e.hangUp()
	}
	if e.conn == nil && e.deaf == nil {
		e.conn, e.deaf = e.SSH.Dial(ctx, private)
	}
	return e.conn, e.deaf
}

func (e *ender) hangUp() {
	if e.conn != nil {
		_ = e.conn.Close()
		e.conn = nil
	}
}

// carryOn takes the termination as far as it goes. Before each step it reads
// again what an operator may have changed meanwhile.
func (e *ender) carryOn(ctx context.Context) (done bool, err error) {
	for {
		if !e.Final() {
			called, err := e.calledOff(ctx)
			if called || err != nil {
				return called, err
			}
			h, err := e.holds(ctx)
			if err != nil {
				return false, err
			}
			if h.end != "" {
				return false, wait("%s", h.end)
			}
			if h.dns != "" && e.Phase == Decided {
				return false, wait("%s", h.dns)
			}
		}
		var step func(context.Context) error
		switch e.Phase {
		case Waiting:
			return false, wait("for its replacement")
		case Decided:
			step = e.leaveDNS
		case Draining:
			step = e.drain
		case Drained:
			step = e.shutDown
			if e.Cause == Unhealthy && e.PostMortem != nil && !e.examined {
				step = e.postMortem
			}
		case Down:
			step = e.end
		case Destroyed:
			if err := e.confirm(ctx); err != nil {
				return false, err
			}
			return true, nil
		default:
			return false, fmt.Errorf("%s: %s is no phase of a termination", endFile(e.ID), e.Phase)
		}
		if err := step(ctx); err != nil {
			return false, err
		}
	}
}

// calledOff forgets the termination of a webserver that was protected since.
func (e *ender) calledOff(ctx context.Context) (bool, error) {
	guarded, err := e.Protected(ctx)
	if err != nil || !guarded[e.Name] {
		return false, err
	}
	if err := e.Dir.Remove(endFile(e.ID)); err != nil {
		return false, err
	}
	e.event(events.TerminationCancel, e.Name, "it was protected; the health check publishes it again")
	return true, nil
}

func (e *ender) enter(p Phase, format string, args ...any) error {
	next := e.Termination
	next.Phase, next.Since = p, e.Now()
	if err := e.Dir.Write(endFile(e.ID), next); err != nil {
		return err
	}
	e.Termination = next
	e.event(events.TerminationPhase, e.Name, "%s: %s", p, fmt.Sprintf(format, args...))
	return nil
}

func (e *ender) leaveDNS(ctx context.Context) error {
	err := e.frontAfter(e.looks).withdraw(ctx, "", who{e.ID, e.Name, e.PublicIP, e.PrivateIP})
	switch {
	case err == nil && e.Proxies == nil:
		return e.enter(Draining, "out of DNS")
	case err == nil:
		return e.enter(Draining, "out of every proxy")
	case errors.Is(err, errUndelivered) && e.waitedEnough(e.PrivateIP):
		e.event(events.ProxyOverdue, e.Name, "%v", err)
		return e.enter(Draining, "after %s, although %v", e.Proxies.RemovalDeadline, err)
	}
	return wait("%v", err)
}

// drain lets clients go that still hold the address. One that fails its checks
// left DNS at its first strike and has nobody to wait for.
func (e *ender) drain(ctx context.Context) error {
	drain := e.Drain
	if e.Cause == Unhealthy {
		drain = 0
	}
	if left := drain - age(e.Now(), e.Since); left > 0 {
		return wait("draining for %s more", left.Round(100*time.Millisecond))
	}
	return e.enter(Drained, "after %s", drain)
}

// shutDown asks the machine to end in order. It is a courtesy: a machine that
// does not answer is destroyed all the same.
func (e *ender) shutDown(ctx context.Context) error {
	what := "shut down over SSH"
	if e.ShutdownCommand == "" {
		what = "no shutdown command"
	} else if conn, err := e.dial(ctx, e.PrivateIP); err != nil {
		what = fmt.Sprintf("not shut down: %v", err)
	} else {
		// A machine that goes down takes the connection with it.
		_, err := conn.Run(ctx, e.ShutdownCommand, e.password())
		var exit *remote.ExitError
		if errors.As(err, &exit) {
			what = fmt.Sprintf("not shut down: %v", err)
		}
	}
	e.hangUp()
	return e.enter(Down, "%s", what)
}

func (e *ender) end(ctx context.Context) error {
	if err := e.destroy(ctx, e.ID); err != nil {
		e.event(events.TerminationFailed, e.Name, "%v", err)
		return wait("%v", err)
	}
	return e.enter(Destroyed, "server %s", e.ID)
}

// confirm waits until a listing shows the server gone, and destroys it again
// when the provider only said so.
func (e *ender) confirm(ctx context.Context) error {
	servers, listed, err := e.looks.servers.since(ctx, e.Since)
	if err == nil && lists(servers, e.ID) && listed.Before(e.Now().Add(-e.Poll/2)) {
		servers, _, err = e.looks.servers.since(ctx, e.Now())
	}
	if err != nil {
		return wait("%v", err)
	}
	if lists(servers, e.ID) {
		if age(e.Now(), e.Since) > destroyAgain {
			e.event(events.TerminationFailed, e.Name, "still listed %s after the provider said it was destroyed", destroyAgain)
			return e.enter(Down, "to be destroyed again")
		}
		return wait("until the listing shows it gone")
	}
	if err := e.forgetServer(ctx, e.ID, e.PublicIP, e.PrivateIP); err != nil {
		return err
	}
	if err := e.Dir.Remove(endFile(e.ID)); err != nil {
		return err
	}
	e.event(events.TerminationDone, e.Name, "gone after %s", age(e.Now(), e.Began).Round(100*time.Millisecond))
	return nil
}

func lists(servers []provider.Server, id string) bool {
	for _, s := range servers {
		if s.ID == id {
			return true
		}
	}
	return false
}

// forgetServer removes all traces of a server that is gone.
func (a *Autoscaler) forgetServer(ctx context.Context, id string, public, private netip.Addr) error {
	now := a.Now()
	if id != "" {
		if err := a.remember(ctx, func(inv *Inventory) bool { inv.depart(id, now); return true }); err != nil {
			return err
		}
	}
	if private.IsValid() {
		if err := remote.Unpin(a.Dir.Path(knownHosts), private, a.SSHPort); err != nil {
			return err
		}
	}
	a.forget(ctx, addressKeys(public, private)...)
	return nil
}

// addRecord publishes a webserver, unless its termination was recorded
// meanwhile: both are done under one lock, so that nothing is published that
// is on its way out.
func (a *Autoscaler) addRecord(ctx context.Context, id, name string, address netip.Addr) error {
	return a.change(ctx, func() error {
		t, found, err := a.termination(id)
		if err != nil {
			return err
		}
		if found && t.Phase != Waiting {
			return nil
		}
		if err := a.mayAct(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		if err := a.DNS.AddRecord(ctx, a.HostName, address, a.TTL); err != nil {
			a.event(events.DNSFailed, name, "%v", err)
			return fmt.Errorf("publishing %s: %w", name, err)
		}
		a.event(events.Published, name, "%s", address)
		return nil
	})
}

func (a *Autoscaler) removeRecord(ctx context.Context, r provider.Record) error {
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := a.DNS.RemoveRecord(ctx, r.ID); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("withdrawing %s: %w", r.Address, err)
	}
	return nil
}
