package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"adt/provider"
)

// lookEvery is the pause between two looks at the fleet.
const lookEvery = time.Second

// hintAfter is after how long without any change a watcher is told what to
// look at.
const hintAfter = 3 * time.Minute

// progress is one look at the whole fleet, by its own probes.
type progress struct {
	Want    int  `json:"wanted"` // by all profiles, without the initial ones
	Initial int  `json:"initial"`
	There   int  `json:"exist"`   // listed, without the initial ones
	Serving int  `json:"serving"` // answer HTTPS and are in DNS, initial ones too
	Fits    bool `json:"-"`       // each autoscaler has as many as it wants
}

// watched is how the fleet was when watching ended.
type watched struct {
	progress
	Reached bool `json:"reached"`
}

func (p progress) done() bool { return p.Fits && p.Serving == p.Want+p.Initial }

func (p progress) String() string {
	return fmt.Sprintf("%d serve, %d wanted (%d and %d initial), %d exist", p.Serving, p.Want+p.Initial, p.Want, p.Initial, p.There+p.Initial)
}

// waitForFleet stays until every shard has as many webservers as its profile
// says and all serve, and returns what it saw last; nil is nothing. It changes
// nothing: cron does the work, and goes on without a watcher.
func waitForFleet(ctx context.Context, h *host, s *site) (*watched, error) {
	show := newProgressLine(h.env.Stderr)
	defer show.end()
	var seen *watched
	var lastErr error
	changed := time.Now()
	hinted := false
	for {
		p, err := look(ctx, s)
		if ctx.Err() == nil {
			lastErr = err
		}
		if err == nil {
			if seen == nil || p != seen.progress {
				changed, hinted = time.Now(), false
			}
			seen = &watched{p, p.done()}
			show.update(p.String())
			if seen.Reached {
				return seen, nil
			}
		}
		if !hinted && time.Since(changed) > hintAfter {
			hinted = true
			show.note(fmt.Sprintf("nothing has changed for %s: does cron run adt scale on every autoscaler? (adt status, adt events --since 10m)", hintAfter))
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				saw := "the fleet was not seen"
				if seen != nil {
					saw = seen.String()
				}
				return seen, errors.Join(fmt.Errorf("not reached in time: %s; the autoscalers go on", saw), lastErr)
			}
			show.note("no longer watching; the autoscalers go on")
			return seen, toldError{ctx.Err()}
		case <-time.After(lookEvery):
		}
	}
}

// look counts what serves now.
func look(ctx context.Context, s *site) (progress, error) {
	var p progress
	all, err := readShares(ctx, s)
	if err != nil {
		return p, err
	}
	defer all.close()
	servers, err := s.Servers.List(ctx)
	if err != nil {
		return p, err
	}
	records, err := s.DNS.Records(ctx, s.HostName)
	if err != nil {
		return p, err
	}
	inDNS := map[netip.Addr]bool{}
	for _, r := range records {
		inDNS[r.Address] = true
	}
	there := map[int]int{}
	var candidates []provider.Server
	for _, srv := range servers {
		n, ok := s.Fleet.Parse(srv.Name)
		if !ok {
			continue
		}
		if n.Initial {
			p.Initial++
		} else {
			p.There++
			there[n.Shard]++
		}
		if inDNS[srv.PublicIP] {
			candidates = append(candidates, srv)
		}
	}
	p.Fits = true
	for _, sh := range all.Shares {
		p.Want += sh.want()
		p.Fits = p.Fits && there[sh.Autoscaler] == sh.want()
	}
	p.Serving = serving(ctx, s, candidates)
	return p, nil
}

func serving(ctx context.Context, s *site, servers []provider.Server) int {
	ctx, cancel := context.WithTimeout(ctx, s.Prober.Deadline)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	n := 0
	for _, srv := range servers {
		wg.Go(func() {
			if s.Prober.ServesHTTPS(ctx, srv.PrivateIP) == nil {
				mu.Lock()
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return n
}

// progressLine shows one line that changes in place on a terminal, and a line
// for each change elsewhere.
type progressLine struct {
	w    io.Writer
	live bool
	last string
}

func newProgressLine(w io.Writer) *progressLine { return &progressLine{w: w, live: terminal(w)} }

func (l *progressLine) update(text string) {
	switch {
	case l.live:
		fmt.Fprintf(l.w, "\r\x1b[K%s", text)
	case text != l.last:
		fmt.Fprintln(l.w, text)
	}
	l.last = text
}

func (l *progressLine) note(text string) {
	l.end()
	fmt.Fprintln(l.w, text)
}

func (l *progressLine) end() {
	if l.live && l.last != "" {
		fmt.Fprintln(l.w)
	}
	l.last = ""
}
