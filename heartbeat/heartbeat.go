// Package heartbeat tells a monitor of cron jobs, such as healthchecks.io, that a
// command has started, and how it ended: the monitor raises the alarm when it hears
// nothing, which nobody on this machine could. It must not know what the command
// does.
//
// Who has the address of a monitor can keep it quiet, so the address is a secret: no
// error holds more of it than the host.
package heartbeat

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Style is how an address says what is told.
type Style string

const (
	Path  Style = "path"  // URL/start, URL, URL/fail: healthchecks.io and many others
	Query Style = "query" // URL?state=run, complete, fail: Cronitor
	Plain Style = "plain" // URL, after a success only
)

// Signal is what is told.
type Signal int

const (
	Started Signal = iota
	Succeeded
	Failed
)

// Address returns what is to be asked for; ok is false where the style has no word
// for the signal.
func Address(base string, style Style, s Signal) (address string, ok bool, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", false, errors.New("it is no address") // the cause would quote it
	}
	switch {
	case style == Plain:
		return base, s == Succeeded, nil
	case style == Query:
		q := u.Query()
		q.Set("state", []string{"run", "complete", "fail"}[s])
		u.RawQuery = q.Encode()
	case s == Started:
		u = u.JoinPath("start")
	case s == Failed:
		u = u.JoinPath("fail")
	}
	return u.String(), true, nil
}

// Monitor is one monitor of one command.
type Monitor struct {
	URL     string
	Style   Style
	Timeout time.Duration // how long the command may be kept by it in all
	CA      string        // file with the certificates (PEM) of an own authority; "" is the system's
}

// Run is a run that the monitor is told of.
type Run struct {
	monitor Monitor
	client  *http.Client
	cancel  context.CancelFunc
	started chan error // has one, when the start was told or could not be
}

// Start tells the monitor that the command has started, while the command goes on.
func (m Monitor) Start(ctx context.Context) *Run {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Run{monitor: m, cancel: cancel, started: make(chan error, 1)}
	var err error
	if r.client, err = m.newClient(); err != nil {
		r.started <- err
		return r
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, m.Timeout)
		defer cancel()
		r.started <- r.tell(ctx, Started)
	}()
	return r
}

func (m Monitor) newClient() (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if m.CA != "" {
		pem, err := os.ReadFile(m.CA)
		if err != nil {
			return nil, fmt.Errorf("the monitor's certificates: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the monitor's certificates: %s holds none", m.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the next one would be told the address as the referrer
	}}, nil
}

// End tells the monitor how the run ended. It takes Timeout at most: half of it goes
// to a start that is still being told. The context of the command may have ended.
func (r *Run) End(ctx context.Context, ok bool) error {
	defer r.cancel()
	if r.client == nil {
		return <-r.started
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.monitor.Timeout)
	defer cancel()
	half := time.NewTimer(r.monitor.Timeout / 2)
	defer half.Stop()
	var started error
	select {
	case started = <-r.started:
	case <-half.C:
		r.cancel()
		started = <-r.started
	}
	signal := Failed
	if ok {
		signal = Succeeded
	}
	if err := r.tell(ctx, signal); err != nil {
		return err // most likely the start had the same one
	}
	return started
}

// Abandon ends what is under way, where another run is the one to be told of.
func (r *Run) Abandon() { r.cancel() }

// tell asks for one address; GET is what all monitors take.
func (r *Run) tell(ctx context.Context, s Signal) error {
	address, ok, err := Address(r.monitor.URL, r.monitor.Style, s)
	if !ok || err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("it is no address")
	}
	request.Header.Set("User-Agent", "adt")
	response, err := r.client.Do(request)
	if err != nil {
		var quoting *url.Error // holds the address
		if errors.As(err, &quoting) {
			err = quoting.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", r.monitor.Timeout)
		}
		return fmt.Errorf("the monitor at %s: %w", request.URL.Host, err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // read to its end, the connection serves twice
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("the monitor at %s: %s: %s", request.URL.Host, response.Status, strings.Join(strings.Fields(string(text)), " "))
	}
	return nil
}
