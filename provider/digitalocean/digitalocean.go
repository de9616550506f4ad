// Package digitalocean is the driver for DigitalOcean: droplets and the A
// records of one domain. It knows the vendor's API and what package provider
// asks of it, but no autoscalers, files or flags.
package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// Config is an account and what new servers are made of.
type Config struct {
	Token  string
	APIURL string // https://api.digitalocean.com/ when empty

	Region string // slug
	Build  string // the build identifier; part of tags and names
	Shard  int    // number of the autoscaler that creates

	Size     string // slug; "" where the account has only the records
	Image    string // slug, or the id of a snapshot
	SSHKey   string // name of the key at the vendor
	VPC      string // name; "" is the region's default
	Firewall bool   // attach new servers to the firewall adt-webserver-<build>

	Zone string // the domain, "example.com"

	// Untagged looks for servers also by their names: the original's have no
	// tag. It costs a listing of the whole account.
	Untagged bool

	// QuotaReserve is the number of API requests left in the hour below which a
	// note says that the rest is for what heals. Who calls acts on it, see Quota.
	QuotaReserve int

	// Note takes what is worth an event; nil when nobody listens. Creates at once
	// call it at once.
	Note func(text string)

	// Transport is what requests go through; a sane one when nil.
	Transport http.RoundTripper
}

// Cloud is an account, opened. It is safe for concurrent use and remembers for
// its lifetime, which is one run, what it looked up.
type Cloud struct {
	config Config
	api    *godo.Client
	quota  *quota
	once   lookups
	adding turn // of records
	known  knownRecords
}

var (
	_ provider.Servers  = (*Cloud)(nil)
	_ provider.DNS      = (*Cloud)(nil)
	_ provider.Examiner = (*Cloud)(nil)
	_ provider.Pricer   = (*Cloud)(nil)
	_ provider.Metered  = (*Cloud)(nil)
	_ provider.Finder   = (*Cloud)(nil)
)

// callTimeout is what one call may take in all, with its pages and repeats.
const callTimeout = 40 * time.Second

// Open prepares the driver. It asks nobody.
func Open(config Config) (*Cloud, error) {
	if config.Token == "" {
		return nil, errors.New("digitalocean: no API token is given")
	}
	if config.Note == nil {
		config.Note = func(string) {}
	}
	if config.Transport == nil {
		config.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 10,
			IdleConnTimeout:     30 * time.Second,
		}
	}
	q := &quota{reserve: config.QuotaReserve, note: config.Note}
	client := &http.Client{
		Transport: &transport{next: config.Transport, token: config.Token, quota: q},
		// Elsewhere the token is nobody's business, and a create could be repeated.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var options []godo.ClientOpt
	if config.APIURL != "" {
		options = append(options, godo.SetBaseURL(strings.TrimRight(config.APIURL, "/")+"/"))
	}
	api, err := godo.New(client, options...) // without its retries, which repeat creates
	if err != nil {
		return nil, fmt.Errorf("digitalocean: the API's address: %w", err)
	}
	return &Cloud{config: config, api: api, quota: q, once: newLookups(), adding: newTurn()}, nil
}

// call bounds one call and says what it was about when it fails.
func call[T any](ctx context.Context, what string, do func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := do(bounded)
	if err != nil {
		err = fmt.Errorf("%s: %w", what, classify(ctx, err))
	}
	return result, err
}

// named puts the vendor's name before an error, as package provider wants it.
func named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("digitalocean: %w", err)
}
