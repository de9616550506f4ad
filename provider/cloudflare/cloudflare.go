// Package cloudflare is the driver for Cloudflare: the A records of one zone.
// It knows the vendor's API and what package provider asks of it, but no
// autoscalers, files or flags.
package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudflare/cloudflare-go"

	"adt/provider"
)

// Config is an account and the zone there.
type Config struct {
	Token      string // an API token, plain or as <account>:::<token>
	Email, Key string // or the account's email address and its global API key
	APIURL     string // https://api.cloudflare.com/client/v4 when empty

	Zone    string // "example.com"
	Proxied bool   // visitors reach new records' addresses through Cloudflare
	Build   string // the build identifier; marks our records

	// Adopt takes records without any comment for ours as well: the original's
	// have none.
	Adopt bool

	// LoadZoneID and SaveZoneID keep the zone's id from run to run, which saves a
	// request; nil is no keeping. What is loaded may be wrong, or "".
	LoadZoneID func() string
	SaveZoneID func(id string) error

	// Transport is what requests go through; a sane one when nil.
	Transport http.RoundTripper
}

// DNS is a zone, opened. It is safe for concurrent use and remembers for its
// lifetime, which is one run, what it looked up.
type DNS struct {
	config  Config
	api     *cloudflare.API
	account string // id, "" when the token does not say

	mu     sync.Mutex
	zoneID string
	sure   bool                         // the zone's id was seen to be that of the zone
	known  map[string][]provider.Record // by name, as it is now; of this run
}

var (
	_ provider.DNS      = (*DNS)(nil)
	_ provider.Examiner = (*DNS)(nil)
)

const (
	// callTimeout is what one call may take in all, repeats included.
	callTimeout = 40 * time.Second
	// perPage is how many records are asked for at once.
	perPage = 100
	// shortestTTL is the least that the vendor takes for records that are not
	// proxied.
	shortestTTL = time.Minute
	// automatic is the TTL that proxied records must have, in the API and in the
	// vendor's name servers.
	automatic        = 1
	automaticSeconds = 300
)

// Open prepares the driver. It asks nobody.
func Open(config Config) (*DNS, error) {
	if config.Transport == nil {
		config.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     30 * time.Second,
		}
	}
	account, token, both := strings.Cut(config.Token, ":::")
	if !both {
		account, token = "", config.Token
	}
	options := []cloudflare.Option{
		cloudflare.HTTPClient(&http.Client{
			Transport:     &transport{next: config.Transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // elsewhere the token is nobody's business
		}),
		cloudflare.UsingRetryPolicy(0, 0, 0), // its own repeats creates
		cloudflare.UsingRateLimit(1000),      // its own makes a run wait; the vendor's answer is heard
	}
	if config.APIURL != "" {
		options = append(options, cloudflare.BaseURL(strings.TrimRight(config.APIURL, "/")))
	}
	d := &DNS{config: config, account: objectID(account), known: map[string][]provider.Record{}}
	var err error
	if token != "" {
		d.api, err = cloudflare.NewWithAPIToken(token, options...)
	} else {
		d.api, err = cloudflare.New(config.Key, config.Email, options...)
	}
	if err != nil {
		return nil, errors.New("cloudflare: neither an API token nor an email address with a global key is given")
	}
	return d, nil
}

// objectID is the text if it is an id of the vendor, 32 hexadecimal digits, or else "".
func objectID(text string) string {
	if len(text) != 32 || strings.Trim(text, "0123456789abcdef") != "" {
		return ""
	}
	return text
}

// comment marks our records.
func (d *DNS) comment() string { return "adt-build-" + d.config.Build }

// ours reports whether a record may be shown to who removes it.
func (d *DNS) ours(r cloudflare.DNSRecord) bool {
	return r.Type == "A" && (r.Comment == d.comment() || r.Comment == "" && d.config.Adopt)
}

// call bounds one call and says what it was about when it fails.
func call[T any](ctx context.Context, what string, do func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := do(bounded)
	if err != nil {
		err = fmt.Errorf("cloudflare: %s: %w", what, classify(ctx, err))
	}
	return result, err
}
