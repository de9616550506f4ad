package healthcheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// head asks for the head file at addr, once, and says what is wrong.
//
// The certificate is not verified: a webserver is asked by its address and has a
// certificate of its own making, or one for a website whose name leads elsewhere.
// Who the machine is, its SSH host key shows.
func (p *Prober) head(ctx context.Context, addr netip.Addr) error {
	transport := &http.Transport{ // without Proxy: a proxy would answer for the machine
		DialContext:            p.DialContext,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, ServerName: p.Host},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	path := strings.TrimPrefix(cmp.Or(p.HeadPath, defaultHeadPath), "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+p.httpsAddr(addr)+"/"+path, nil)
	if err != nil {
		return fmt.Errorf("HTTPS: %w", err)
	}
	request.Host = p.Host
	response, err := client.Do(request)
	if err != nil {
		// The method and address that url.Error adds are known to the reader.
		var noise *url.Error
		if errors.As(err, &noise) {
			err = noise.Err
		}
		return fmt.Errorf("HTTPS: %w", err)
	}
	response.Body.Close()
	if accepted := p.accepted(); !slices.Contains(accepted, response.StatusCode) {
		return fmt.Errorf("HTTPS status %d, want %s", response.StatusCode, alternatives(accepted))
	}
	return nil
}

// connects makes one TCP connection to the HTTPS port.
func (p *Prober) connects(ctx context.Context, addr netip.Addr) error {
	dial := p.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", p.httpsAddr(addr))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *Prober) httpsAddr(addr netip.Addr) string {
	return netip.AddrPortFrom(addr.Unmap(), uint16(cmp.Or(p.HTTPSPort, defaultHTTPSPort))).String()
}

func (p *Prober) accepted() []int {
	if len(p.AcceptStatus) > 0 {
		return p.AcceptStatus
	}
	return []int{http.StatusOK, http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther}
}

// alternatives is "200, 301 or 302".
func alternatives(status []int) string {
	words := make([]string, len(status))
	for i, s := range status {
		words[i] = strconv.Itoa(s)
	}
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
