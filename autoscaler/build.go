package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"adt/events"
	"adt/provider"
	"adt/remote"
	"adt/rundir"
)

// createTimeout bounds a create or destroy call. It is not cut short by the
// end of a run's budget: a cut call leaves open what it did.
const createTimeout = 60 * time.Second

// overdue says which deadline a build has passed; "" is none.
func (b Build) overdue(now time.Time, whole time.Duration, phase map[Phase]time.Duration) string {
	if in := age(now, b.Began); in > whole {
		return fmt.Sprintf("not done within %s (build.deadline)", whole)
	}
	if limit, ok := phase[b.Phase]; ok && age(now, b.Since) > limit {
		return fmt.Sprintf("still %s after %s", b.Phase, limit)
	}
	return ""
}

// found picks the server of a build from a listing: by its id, or while that is
// not known by its exact name (the oldest, should there be several).
func (b Build) found(servers []provider.Server) (provider.Server, bool) {
	var hit provider.Server
	ok := false
	for _, s := range servers {
		if s.ID == b.ID || (b.ID == "" && s.Name == b.Name && (!ok || s.Created.Before(hit.Created))) {
			hit, ok = s, true
		}
	}
	return hit, ok
}

// settled reports whether a listing that began at listed would show the server
// if the last create call had made one.
func (b Build) settled(listed time.Time, settle time.Duration) bool {
	return b.Sent.IsZero() || listed.Sub(b.Sent) >= settle
}

// errWait says that a step has to be looked at again later, and why.
var errWait = errors.New("waiting")

func wait(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWait, fmt.Sprintf(format, args...))
}

// builder carries one build on.
type builder struct {
	*Autoscaler
	Build
	looks *looks
	gate  chan struct{} // bounds concurrent creates
	conn  *remote.Conn  // to the server, for the whole run; nil until it is needed

	examined bool // in this run
}

// carryOn takes the build as far as it goes. done says that the record is gone;
// an error that wraps errWait is the ordinary course.
func (b *builder) carryOn(ctx context.Context) (done bool, err error) {
	for {
		late := ""
		if b.Phase != Condemned {
			late = b.overdue(b.Now(), b.BuildDeadline, b.PhaseDeadline)
		}
		if late != "" && b.Phase == Named { // nothing may be ordered any more
			if err := b.condemn(ctx, late); err != nil {
				return false, err
			}
			continue
		}
		var step func(context.Context) error
		switch b.Phase {
		case Named:
			step = b.create
		case Created:
			step = b.address
		case Addressed:
			step = b.ready
		case Ready:
			step = b.configure
		case Configured:
			step = b.serve
		case Serving:
			step = b.publish
		case InDNS:
			return true, b.finish(ctx)
		case Condemned:
			if err := b.raze(ctx); err != nil {
				return false, err
			}
			return true, nil
		default:
			return false, fmt.Errorf("%s: %s is no phase of a build", buildFile(b.N), b.Phase)
		}
		err := step(ctx)
		if errors.Is(err, errWait) && late != "" {
			// Only now: it may have come through while no tick looked.
			err = b.condemn(ctx, late+"; "+err.Error())
		}
		if err != nil {
			return false, err
		}
	}
}

// enter records the next phase; only then the build is in it.
func (b *builder) enter(p Phase, format string, args ...any) error {
	next := b.Build
	next.Phase, next.Since = p, b.Now()
	if err := b.save(next); err != nil {
		return err
	}
	b.event(events.BuildPhase, b.Name, "%s: %s", p, fmt.Sprintf(format, args...))
	return nil
}

func (b *builder) save(next Build) error {
	next.Version = rundir.Version
	if err := b.Dir.Write(buildFile(b.N), next); err != nil {
		return err
	}
	b.Build = next
	return nil
}

// create orders the server. The name was recorded before, and the moment of
// the call is recorded now, so that after any crash the listing can tell what
// became of it.
func (b *builder) create(ctx context.Context) error {
	if !b.Sent.IsZero() {
		servers, listed, err := b.looks.servers.since(ctx, b.Sent)
		if err == nil && !b.settled(listed, b.Settle) {
			if b.settled(b.Now(), b.Settle) {
				servers, listed, err = b.looks.servers.since(ctx, b.Sent.Add(b.Settle))
			}
		}
		if err != nil {
			return wait("the listing cannot tell what became of the create call: %v", err)
		}
		if s, ok := b.found(servers); ok {
			b.event(events.BuildAdopted, b.Name, "server %s was found by its name", s.ID)
			return b.made(s)
		}
		if !b.settled(listed, b.Settle) {
			return wait("the listing may lag behind the create call")
		}
		b.event(events.BuildRepeated, b.Name, "not in the listing %s after the create call", age(listed, b.Sent).Round(time.Second))
	}
	select {
	case b.gate <- struct{}{}:
		defer func() { <-b.gate }()
	case <-ctx.Done():
		return wait("too many create calls at once")
	}
	seed, err := b.seed()
	if err != nil {
		return err
	}
	pem, public, err := b.HostKey(seed, b.Name)
	if err != nil {
		return err
	}
	data, err := b.UserData(b.Name, pem, public)
	if err != nil {
		return err
	}
	if err := b.mayAct(ctx); err != nil {
		return err
	}
	next := b.Build
	next.Sent = b.Now()
	if err := b.save(next); err != nil {
		return err
	}
	_ = b.Dir.Mark(fmt.Sprintf("INITIALLY_PROVISIONING-%d.lock", b.N))
	callCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.callLimit())
	defer cancel()
	server, err := b.Servers.Create(callCtx, provider.Spec{Name: b.Name, UserData: data})
	if err != nil {
		b.event(events.CreateFailed, b.Name, "%v", err)
	}
	switch {
	case server.ID != "":
		return b.made(server)
	case err == nil:
		return wait("the provider named no server")
	case errors.Is(err, provider.ErrRateLimited), errors.Is(err, provider.ErrTemporary),
		errors.Is(err, context.DeadlineExceeded):
		return wait("what became of the create call shows in the listing")
	default: // refused: nothing was made, and asking again would be refused again
		return b.condemn(ctx, "the provider refused: "+err.Error())
	}
}

func (b *builder) made(s provider.Server) error {
	b.ID = s.ID
	return b.enter(Created, "server %s", s.ID)
}

// address waits for the addresses and pins the host key to them.
func (b *builder) address(ctx context.Context) error {
	servers, _, err := b.looks.servers.since(ctx, b.Since)
	if err == nil {
		if s, ok := b.found(servers); !ok || !s.Addressed() {
			servers, _, err = b.looks.servers.since(ctx, b.Now().Add(-b.Poll/2))
		}
	}
	if err != nil {
		return wait("%v", err)
	}
	s, ok := b.found(servers)
	if !ok || !s.Addressed() {
		return wait("no addresses yet")
	}
	seed, err := b.seed()
	if err != nil {
		return err
	}
	_, public, err := b.HostKey(seed, b.Name)
	if err != nil {
		return err
	}
	if err := remote.Pin(b.Dir.Path(knownHosts), s.PrivateIP, b.SSHPort, public); err != nil {
		return err
	}
	_ = b.Dir.Unmark(fmt.Sprintf("INITIALLY_PROVISIONING-%d.lock", b.N))
	_ = b.Dir.Mark(fmt.Sprintf("beingbuiltips/%d/%s", b.N, s.PrivateIP))
	_ = b.Dir.Mark("POTENTIAL_STALLED_BUILD:" + s.PrivateIP.String())
	// Who takes over in the middle of this build could do nothing with a machine
	// whose key nobody knows. While the store is silent the build goes on all the
	// same: it is missing now, and the health check gives the store the key later.
	if b.Lease > 0 && !b.shareHostKey(ctx, s.PrivateIP, public) && !b.silent.Load() {
		return wait("the datastore has to have its host key first")
	}
	b.note(ctx, "beingbuiltips/"+s.PrivateIP.String(), "webserverips/"+s.PrivateIP.String(), "webserverpublicips/"+s.PublicIP.String())
	b.PublicIP, b.PrivateIP = s.PublicIP, s.PrivateIP
	return b.enter(Addressed, "%s, private %s", s.PublicIP, s.PrivateIP)
}

// onServer runs do over the run's one SSH connection to the server, or a new
// one where that was lost. That the server does not answer yet is nothing but a
// reason to wait.
func (b *builder) onServer(ctx context.Context, do func(*remote.Conn) error) error {
	conn, err := b.dial(ctx, b.PrivateIP)
	if err != nil {
		return wait("%v", err)
	}
	return do(conn)
}

func (b *builder) dial(ctx context.Context, private netip.Addr) (*remote.Conn, error) {
	if b.conn != nil && b.conn.Lost() {
		b.hangUp()
	}
	if b.conn == nil {
		conn, err := b.SSH.Dial(ctx, private)
		if err != nil {
			return nil, err
		}
		b.conn = conn
	}
	return b.conn, nil
}

func (b *builder) hangUp() {
	if b.conn != nil {
		_ = b.conn.Close()
		b.conn = nil
	}
}

// exists asks for files on the server; all must be there.
func exists(ctx context.Context, conn *remote.Conn, files ...string) (bool, error) {
	tests := make([]string, len(files))
	for i, f := range files {
		tests[i] = "[ -e " + remote.Quote(f) + " ]"
	}
	_, err := conn.Run(ctx, strings.Join(tests, " && "), nil)
	var exit *remote.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	return err == nil, err
}

func (b *builder) ready(ctx context.Context) error {
	if err := b.allow(ctx); err != nil {
		return err
	}
	err := b.onServer(ctx, func(conn *remote.Conn) error {
		for _, marker := range []string{b.ReadyMarker, b.LanguageMarker} {
			if marker == "" {
				continue
			}
			there, err := exists(ctx, conn, marker)
			if err != nil {
				return wait("%v", err)
			}
			if !there {
				return wait("%s is not there yet", marker)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.enter(Ready, "its own set-up is through")
}

func (b *builder) configure(ctx context.Context) error {
	if b.ConfigureCommand == "" {
		return b.enter(Configured, "nothing to configure")
	}
	err := b.onServer(ctx, func(conn *remote.Conn) error {
		there, err := exists(ctx, conn, b.ConfiguredMarker)
		if err != nil {
			return wait("%v", err)
		}
		if there {
			return nil
		}
		if _, err := conn.RunWithin(ctx, b.ConfigureTimeout, b.ConfigureCommand, b.password()); err != nil {
			return wait("the configuration command: %v", err)
		}
		if there, err = exists(ctx, conn, b.ConfiguredMarker); err != nil || !there {
			return wait("%s is not there yet", b.ConfiguredMarker)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.enter(Configured, "the application is configured")
}

// password is what sudo reads on standard input; it is in no argument list.
func (a *Autoscaler) password() []byte {
	if a.SudoPassword == "" {
		return nil
	}
	return []byte(a.SudoPassword + "\n")
}

// serve waits for HTTPS, and restarts the web server between tries; then for
// the file without which the application is not set up.
func (b *builder) serve(ctx context.Context) error {
	if err := b.Prober.ServesHTTPS(ctx, b.PrivateIP); err != nil {
		if b.RestartCommand != "" && ctx.Err() == nil {
			_ = b.onServer(ctx, func(conn *remote.Conn) error {
				_, err := conn.Run(ctx, b.RestartCommand, b.password())
				return err
			})
		}
		return wait("%v", err)
	}
	config := b.Prober.ApplicationConfig
	if config == "" {
		return b.enter(Serving, "it answers HTTPS")
	}
	err := b.onServer(ctx, func(conn *remote.Conn) error {
		there, err := exists(ctx, conn, config)
		if err != nil || !there {
			return wait("the application config %s is not there yet", config)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.enter(Serving, "it answers HTTPS and has its application config")
}

// publish leads visitors to the new webserver. While DNS is paused it is done
// without: the health check publishes it when the pause is lifted.
func (b *builder) publish(ctx context.Context) error {
	h, err := b.holds(ctx)
	if err != nil {
		return err
	}
	if h.dns != "" {
		return b.enter(InDNS, "not published, %s", h.dns)
	}
	switch err := b.frontAfter(b.looks).publish(ctx, who{b.ID, b.Name, b.PublicIP, b.PrivateIP}); {
	case errors.Is(err, errUndelivered): // nothing that a build could do about it
		return b.enter(InDNS, "%v", err)
	case err != nil:
		return wait("%v", err)
	}
	return b.enter(InDNS, "%s", b.PublicIP)
}

// finish hands the webserver over to the health check and forgets the build.
func (b *builder) finish(ctx context.Context) error {
	now := b.Now()
	err := b.remember(ctx, func(inv *Inventory) bool {
		k := inv.Servers[b.ID]
		if k.ID == "" {
			k = Known{ID: b.ID, Name: b.Name, FirstSeen: now}
		}
		k.PublicIP, k.PrivateIP, k.Online, k.State, k.Checked = b.PublicIP, b.PrivateIP, true, "healthy", now
		inv.Servers[b.ID] = k
		return true
	})
	if err != nil {
		return err
	}
	b.note(ctx, "beenonline/"+b.PrivateIP.String())
	b.forget(ctx, "beingbuiltips/"+b.PrivateIP.String())
	b.unmark()
	if err := b.Dir.Remove(backoffFile); err != nil {
		return err
	}
	if err := b.Dir.Remove(buildFile(b.N)); err != nil {
		return err
	}
	b.event(events.BuildDone, b.Name, "serves after %s", age(now, b.Began).Round(100*time.Millisecond))
	return nil
}

func (b *builder) unmark() {
	_ = b.Dir.Unmark(fmt.Sprintf("INITIALLY_PROVISIONING-%d.lock", b.N))
	if b.PrivateIP.IsValid() {
		_ = b.Dir.Unmark(fmt.Sprintf("beingbuiltips/%d/%s", b.N, b.PrivateIP))
		_ = b.Dir.Unmark("POTENTIAL_STALLED_BUILD:" + b.PrivateIP.String())
	}
}

// condemn gives the build up and counts the failure.
func (b *builder) condemn(ctx context.Context, why string) error {
	next := b.Build
	next.Phase, next.Since, next.Why = Condemned, b.Now(), why
	if err := b.countFailure(ctx); err != nil {
		return err
	}
	if err := b.save(next); err != nil {
		return err
	}
	b.event(events.BuildCondemned, b.Name, "%s", why)
	return nil
}

func (b *builder) countFailure(ctx context.Context) error {
	return b.change(ctx, func() error {
		var old Backoff
		if _, err := b.Dir.Read(backoffFile, &old); err != nil {
			return err
		}
		next := old.After(b.Now(), b.Began, b.Settings.Backoff, b.MaxFailures)
		if next == old {
			return nil
		}
		next.Version = rundir.Version
		if err := b.Dir.Write(backoffFile, next); err != nil {
			return err
		}
		if next.Stopped {
			b.event(events.BuildingStop, "", "%d times in a row builds failed: none begins until `adt resume`", next.Failures)
		} else {
			b.event(events.Backoff, "", "the next build begins in %s", next.Until.Sub(next.Failed))
		}
		return nil
	})
}

// raze destroys what a condemned build has left, and forgets the build when
// the listing shows nothing of it any more.
func (b *builder) raze(ctx context.Context) error {
	h, err := b.holds(ctx)
	if err != nil {
		return err
	}
	if h.end != "" {
		return wait("%s", h.end)
	}
	after := b.Since // of a listing that tells
	if !b.Sent.IsZero() && b.ID == "" {
		after = b.Sent.Add(b.Settle)
	}
	if b.Now().Before(after) {
		return wait("the listing may lag behind the create call")
	}
	servers, _, err := b.looks.servers.since(ctx, after)
	if err != nil {
		return wait("%v", err)
	}
	if s, ok := b.found(servers); ok {
		if b.ID == "" {
			next := b.Build
			next.ID, next.PublicIP, next.PrivateIP = s.ID, s.PublicIP, s.PrivateIP
			if err := b.save(next); err != nil {
				return err
			}
		}
		if b.PostMortem != nil && !b.examined {
			if err := b.postMortem(ctx, s); err != nil {
				return err
			}
			return b.raze(ctx) // an operator may have changed his mind meanwhile
		}
		err := b.frontAfter(b.looks).withdraw(ctx, "", whoIs(s))
		if err != nil && !(errors.Is(err, errUndelivered) && b.waitedEnough(s.PrivateIP)) {
			return wait("%v", err)
		}
		if err := b.destroy(ctx, b.ID); err != nil {
			return wait("%v", err)
		}
		// The same listing again would show it still.
		next := b.Build
		next.Since = b.Now()
		if err := b.save(next); err != nil {
			return err
		}
		return wait("until the listing shows it gone")
	}
	if b.ID != "" { // the listing may hide it; one that is gone is no error
		if b.PostMortem != nil && !b.examined {
			if err := b.postMortem(ctx, provider.Server{ID: b.ID, Name: b.Name, PublicIP: b.PublicIP, PrivateIP: b.PrivateIP}); err != nil {
				return err
			}
			return b.raze(ctx)
		}
		if err := b.destroy(ctx, b.ID); err != nil {
			return wait("%v", err)
		}
	}
	if err := b.forgetServer(ctx, b.ID, b.PublicIP, b.PrivateIP); err != nil {
		return err
	}
	b.unmark()
	if err := b.Dir.Remove(buildFile(b.N)); err != nil {
		return err
	}
	b.event(events.BuildDestroyed, b.Name, "%s", b.Why)
	return nil
}

// destroy ends a server; one that is gone already is as good.
func (a *Autoscaler) destroy(ctx context.Context, id string) error {
	if err := a.mayAct(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.callLimit())
	defer cancel()
	if err := a.Servers.Destroy(ctx, id); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("destroying server %s: %w", id, err)
	}
	return nil
}
