// Package healthcheck says how webservers are: probe.go climbs a ladder of checks
// over the network, judge.go makes verdicts from the results by rules alone. It
// knows names and addresses; it must not know vendors, DNS services, state files
// or who carries a verdict out.
package healthcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"adt/remote"
)

// Target is one machine to probe.
type Target struct {
	Name    string
	Address netip.Addr
}

// Rung is a step of the ladder, in the order of climbing, so that a higher one
// compares as greater.
type Rung int

const (
	// NotProbed: nothing was learnt about the machine, by a fault of ours or
	// because the run was interrupted. It is no failure and no success.
	NotProbed  Rung = iota
	RungTCP         // the SSH port accepts a connection
	RungSSH         // SSH works, the host key is the pinned one, an online marker is there
	RungHTTPS       // the head file is answered with an accepted status
	RungConfig      // the application's configuration file is there
	RungBuild       // the machine's own build is not stuck
	Passed
)

func (r Rung) String() string {
	names := [...]string{"not probed", "TCP", "SSH", "HTTPS", "config", "build", "passed"}
	if r < 0 || int(r) >= len(names) {
		return "rung " + strconv.Itoa(int(r))
	}
	return names[r]
}

// Result is what one probe found.
type Result struct {
	Target Target
	Rung   Rung          // the lowest rung that failed, Passed, or NotProbed
	Detail string        // one line for people: "HTTPS status 500, want 200 or 301"
	Took   time.Duration // start to verdict
}

// What a zero field of Prober stands for; names and numbers are the original's.
const (
	defaultHTTPSPort            = 443
	defaultHeadPath             = "index.php"
	defaultBuildInProgress      = "runtime/BUILD_IN_PROGRESS"
	defaultBuildInProgressLimit = 30 * time.Minute
	defaultDeadline             = 20 * time.Second
)

// tries is how often SSH and HTTPS are asked before a failure counts: a flake is
// not a strike. The original asked 2 and 4 times.
const tries = 2

// longestPause is how long a failed try is let rest before the next.
const longestPause = 500 * time.Millisecond

// Prober probes webservers. Files named by a relative path are looked for in the
// home directory of the login user and must be visible to that user. It is safe
// for concurrent use.
type Prober struct {
	SSH *remote.Dialer

	HTTPSPort    int    // 443 when 0
	Host         string // the website's host name, for the Host header and SNI; the address when empty
	HeadPath     string // path of the head file; index.php when empty
	AcceptStatus []int  // 200, 301, 302, 303 when empty

	OnlineMarkers        []string      // one of them must exist; the original's two when empty
	ApplicationConfig    string        // file that must exist; no such rung when empty
	BuildInProgress      string        // marker of the machine's own build; runtime/BUILD_IN_PROGRESS when empty
	BuildInProgressLimit time.Duration // age from which that build is stuck; 30 min when 0

	Deadline time.Duration // bounds one probe in all, tries and pauses included; 20 s when 0

	// DialContext opens the TCP connections for HTTPS; a plain net.Dialer when
	// nil. Those for SSH are the Dialer's.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ProbeAll probes all targets at once; the results are in the order of the
// targets. It takes as long as its slowest probe, at most Deadline.
func (p *Prober) ProbeAll(ctx context.Context, targets []Target) []Result {
	results := make([]Result, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() { results[i] = p.Probe(ctx, target) })
	}
	wg.Wait()
	return results
}

// Probe climbs the ladder at one target: TCP, SSH marker, HTTPS status,
// application config, build not stuck. SSH and HTTPS are asked at the same time;
// the result names the lowest rung that failed.
//
// Without a pinned host key SSH can tell nothing, and that is our lack, not the
// machine's: then HTTPS alone can fail it and nothing can pass it.
func (p *Prober) Probe(ctx context.Context, target Target) Result {
	start := time.Now()
	rung, detail := p.climb(ctx, target.Address)
	return Result{Target: target, Rung: rung, Detail: oneLine(detail), Took: time.Since(start)}
}

func (p *Prober) climb(parent context.Context, addr netip.Addr) (Rung, string) {
	ctx, cancel := context.WithTimeout(parent, p.deadline())
	defer cancel()

	https := make(chan error, 1)
	go func() {
		https <- p.retry(ctx, func(ctx context.Context) error { return p.head(ctx, addr) })
	}()
	seen, sshErr := p.look(ctx, addr)
	rung, detail := sshVerdict(seen, sshErr)
	if rung == RungTCP || rung == RungSSH {
		cancel() // no rung above can change the verdict
	}
	httpsErr := <-https

	switch {
	case parent.Err() != nil:
		return NotProbed, "interrupted: " + parent.Err().Error()
	case rung == RungTCP || rung == RungSSH:
		return rung, detail
	case httpsErr != nil && ours(httpsErr):
		return NotProbed, httpsErr.Error()
	case httpsErr != nil:
		return RungHTTPS, httpsErr.Error()
	case rung == NotProbed:
		return rung, detail
	case !seen.config:
		return RungConfig, fmt.Sprintf("application config %s is missing", p.ApplicationConfig)
	case seen.building > p.buildLimit():
		return RungBuild, fmt.Sprintf("build in progress for %s, limit %s", seen.building, p.buildLimit())
	}
	return Passed, "all checks passed"
}

// sshVerdict is how far SSH alone got: a rung that failed, NotProbed when the
// fault is ours, else Passed.
func sshVerdict(seen sight, err error) (Rung, string) {
	switch {
	case err != nil && ours(err):
		return NotProbed, err.Error()
	case errors.Is(err, remote.ErrUnreachable) && !errors.Is(err, remote.ErrHandshake) && !errors.Is(err, errConnected):
		return RungTCP, err.Error()
	case err != nil:
		return RungSSH, err.Error()
	case !seen.marker:
		return RungSSH, "no online marker"
	}
	return Passed, ""
}

// ours reports an error that is a lack on this side: no pinned key, no login key,
// no descriptors, ports or memory for one more connection.
func ours(err error) bool {
	for _, lack := range []error{
		remote.ErrUnknownHost, remote.ErrSetup,
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}

// Answers reports whether the machine is there: it proves to hold its pinned host
// key, whatever it says to our login; or, where no key is known, its HTTPS port
// accepts a connection. It is for doubting a listing that no longer shows the
// machine, so where we cannot tell who answers, an answer is believed. False tells
// nothing when ctx has ended.
func (p *Prober) Answers(ctx context.Context, target Target) bool {
	ctx, cancel := context.WithTimeout(ctx, p.deadline())
	defer cancel()
	err := p.retry(ctx, func(ctx context.Context) error {
		conn, err := p.SSH.Dial(ctx, target.Address)
		switch {
		case err == nil:
			conn.Close()
			return nil
		case errors.Is(err, remote.ErrLogin):
			return nil
		case errors.Is(err, remote.ErrUnknownHost), errors.Is(err, remote.ErrSetup):
			return p.connects(ctx, target.Address)
		}
		return err
	})
	return err == nil || ours(err)
}

// ServesHTTPS asks once for the head file, within Deadline, and says what is
// wrong with the answer. It is the HTTPS rung alone, for builds.
func (p *Prober) ServesHTTPS(ctx context.Context, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, p.deadline())
	defer cancel()
	return p.head(ctx, addr)
}

// ProbeHTTPS asks all targets at once for the head file and nothing else: for
// reverse proxies, which have no markers of a webserver. The results are in the
// order of the targets.
func (p *Prober) ProbeHTTPS(parent context.Context, targets []Target) []Result {
	results := make([]Result, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() {
			start := time.Now()
			ctx, cancel := context.WithTimeout(parent, p.deadline())
			defer cancel()
			err := p.retry(ctx, func(ctx context.Context) error { return p.head(ctx, target.Address) })
			r := Result{Target: target, Rung: Passed, Detail: "it answers HTTPS"}
			switch {
			case parent.Err() != nil:
				r.Rung, r.Detail = NotProbed, "interrupted: "+parent.Err().Error()
			case err != nil && ours(err):
				r.Rung, r.Detail = NotProbed, err.Error()
			case err != nil:
				r.Rung, r.Detail = RungHTTPS, err.Error()
			}
			r.Detail, r.Took = oneLine(r.Detail), time.Since(start)
			results[i] = r
		})
	}
	wg.Wait()
	return results
}

// retry calls try until it succeeds, fails for good, or has failed as often as a
// flake may. A try gets an equal part of the time that is left, so that a frozen
// one leaves time for the next.
func (p *Prober) retry(ctx context.Context, try func(context.Context) error) error {
	var err error
	for left := tries; left > 0; left-- {
		if err != nil && !pause(ctx, min(longestPause, p.deadline()/40)) {
			return err
		}
		err = once(ctx, left, try)
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
	}
	return err
}

func once(ctx context.Context, left int, try func(context.Context) error) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	return try(ctx)
}

// final reports an answer that a second try would only repeat.
func final(err error) bool {
	return errors.Is(err, remote.ErrHostKey) || errors.Is(err, remote.ErrLogin) || errors.Is(err, remote.ErrSetup)
}

// pause waits for d; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (p *Prober) deadline() time.Duration { return cmp.Or(p.Deadline, defaultDeadline) }
func (p *Prober) buildLimit() time.Duration {
	return cmp.Or(p.BuildInProgressLimit, defaultBuildInProgressLimit)
}

// oneLine makes s fit a log line; messages of machines may hold anything.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
