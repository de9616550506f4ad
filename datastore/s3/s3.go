// Package s3 is a datastore at a vendor that speaks Amazon's S3 protocol, with
// minio-go.
package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"adt/datastore"
)

// How a bucket is named in an address.
const (
	StyleAuto    = ""        // virtual for Amazon and those known to want it, path for all others
	StylePath    = "path"    // https://endpoint/bucket/key
	StyleVirtual = "virtual" // https://bucket.endpoint/key
)

// Config is one endpoint and the keys to it.
type Config struct {
	Endpoint  string // https://host[:port]
	Region    string // "" is us-east-1, which most take for their only one
	AccessKey string
	SecretKey string
	Style     string
	CA        string        // file with the certificates (PEM) that sign the endpoint's; "" is the system's
	Timeout   time.Duration // of one request
	// Dial, where set, is the way to the endpoint in place of the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Store is an S3 endpoint. It is safe for concurrent use.
type Store struct {
	client  *minio.Client
	host    string
	region  string
	timeout time.Duration
	clock   *clock
}

// Open asks nobody yet.
func Open(c Config) (*Store, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("s3: %q is no endpoint such as https://lon1.example.com", c.Endpoint)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = c.Timeout
	if c.Dial != nil {
		transport.DialContext = c.Dial
	}
	transport.DisableCompression = true // minio-go wants contents as they are
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("s3: %s holds no certificate", c.CA)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	s := &Store{host: u.Host, region: c.Region, timeout: c.Timeout, clock: &clock{next: transport}}
	if s.region == "" {
		s.region = "us-east-1" // none at all would cost a request for each bucket
	}
	lookup := map[string]minio.BucketLookupType{StylePath: minio.BucketLookupPath, StyleVirtual: minio.BucketLookupDNS}
	s.client, err = minio.New(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(c.AccessKey, c.SecretKey, ""), Secure: u.Scheme != "http",
		Region: s.region, BucketLookup: lookup[c.Style], Transport: s.clock,
		MaxRetries: 1, // no repeats: the next tick is the repeat
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	return s, nil
}

var _ datastore.Store = (*Store)(nil)

// List implements datastore.Store. A bucket that does not exist is an error: it
// is one of the settings, as no command could be there.
func (s *Store) List(ctx context.Context, bucket, prefix string) ([]datastore.Object, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var out []datastore.Object
	for o := range s.client.ListObjectsIter(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, FetchOwner: new(bool)}) {
		if o.Err != nil {
			return nil, s.fault(ctx, o.Err, "listing %q of bucket %s", prefix, bucket)
		}
		if o.LastModified.IsZero() {
			return nil, s.fault(ctx, errNoTime, "listing %q of bucket %s", prefix, bucket)
		}
		out = append(out, datastore.Object{Key: o.Key, Modified: o.LastModified})
	}
	if ctx.Err() != nil { // the iterator ends without a word
		return nil, s.fault(ctx, ctx.Err(), "listing %q of bucket %s", prefix, bucket)
	}
	return out, nil
}

var errNoTime = errors.New("an object has no time")

// Get implements datastore.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	object, err := s.client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.fault(ctx, err, "reading %s of bucket %s", key, bucket)
	}
	defer object.Close()
	content, err := io.ReadAll(object)
	if err != nil {
		return nil, s.fault(ctx, err, "reading %s of bucket %s", key, bucket)
	}
	return content, nil
}

// Put implements datastore.Store.
func (s *Store) Put(ctx context.Context, bucket, key string, content []byte) error {
	return s.put(ctx, "writing", bucket, key, content, minio.PutObjectOptions{})
}

// Create implements datastore.Store, with If-None-Match: *. A vendor that
// ignores that writes over what is there: see Conditional.
func (s *Store) Create(ctx context.Context, bucket, key string, content []byte) error {
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	return s.put(ctx, "making", bucket, key, content, opts)
}

func (s *Store) put(ctx context.Context, doing, bucket, key string, content []byte, opts minio.PutObjectOptions) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	opts.DisableMultipart = true
	opts.ContentType = "application/octet-stream"
	_, err := s.client.PutObject(ctx, bucket, key, bytes.NewReader(content), int64(len(content)), opts)
	if err != nil {
		return s.fault(ctx, err, "%s %s of bucket %s", doing, key, bucket)
	}
	return nil
}

// Delete implements datastore.Store.
func (s *Store) Delete(ctx context.Context, bucket, key string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	err := s.client.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
	if err = s.fault(ctx, err, "deleting %s of bucket %s", key, bucket); errors.Is(err, datastore.ErrNotFound) {
		return nil
	}
	return err
}

// Now implements datastore.Store: by the Date of the last answer.
func (s *Store) Now(ctx context.Context) (time.Time, time.Duration, error) {
	if now, within, ok := s.clock.now(); ok {
		return now, within, ctx.Err()
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	_, err := s.client.BucketExists(ctx, "adt-asks-the-time")
	now, within, ok := s.clock.now()
	switch {
	case ok:
		return now, within, nil // any answer has the time, a refusal too
	case err == nil:
		err = errNoDate
	}
	return time.Time{}, 0, s.fault(ctx, err, "asking for the time")
}

var errNoDate = errors.New("answers have no Date")

// MakeBucket makes a bucket; that it is there and ours already is no error.
func (s *Store) MakeBucket(ctx context.Context, bucket string) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	err := s.client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: s.region})
	if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	return s.fault(ctx, err, "making bucket %s", bucket)
}

// Conditional reports whether the vendor honours the condition under Create, on
// which leases rest, by making one object twice. The key should be nobody's; it
// is deleted again.
func (s *Store) Conditional(ctx context.Context, bucket, key string) (bool, error) {
	defer func() { _ = s.Delete(context.WithoutCancel(ctx), bucket, key) }()
	if err := s.Create(ctx, bucket, key, []byte("1")); err != nil && !errors.Is(err, datastore.ErrExists) {
		return false, err
	}
	err := s.Create(ctx, bucket, key, []byte("2"))
	switch {
	case errors.Is(err, datastore.ErrExists):
		return true, nil
	case err == nil:
		return false, nil
	}
	return false, err
}

func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.timeout)
}

// fault gives an error its type.
func (s *Store) fault(ctx context.Context, err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	doing = fmt.Sprintf(doing, args...)
	answer := minio.ToErrorResponse(err)
	kind := kindOf(answer)
	var cut *xml.SyntaxError
	switch {
	case errors.Is(kind, datastore.ErrUnauthorized) && answer.Region != "" && answer.Region != s.region:
		err = fmt.Errorf("%w (the bucket is in region %s, asked for was %s)", err, answer.Region, s.region)
	case kind != nil:
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("s3: %s at %s: %w", doing, s.host, ctx.Err())
	case answer.StatusCode == 0 || errors.As(err, &cut): // no answer, or half of one
		kind = datastore.ErrTemporary
	}
	if kind == nil {
		return fmt.Errorf("s3: %s at %s: %w", doing, s.host, err)
	}
	return fmt.Errorf("s3: %s at %s: %w: %w", doing, s.host, kind, err)
}

// kindOf sorts answers by code, and where a vendor sends none by status.
func kindOf(r minio.ErrorResponse) error {
	switch r.Code {
	case "NoSuchKey":
		return datastore.ErrNotFound
	case "NoSuchBucket":
		return datastore.ErrNoBucket
	case "PreconditionFailed", "ConditionalRequestConflict":
		return datastore.ErrExists
	case "RequestTimeTooSkewed", "RequestExpired":
		return datastore.ErrClock
	case "InvalidAccessKeyId", "XAdminUserNotFound" /* versitygw's word for it */, "SignatureDoesNotMatch", "AccessDenied", "AuthorizationHeaderMalformed":
		return datastore.ErrUnauthorized
	case "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout":
		return datastore.ErrTemporary
	}
	switch {
	case r.StatusCode == http.StatusPreconditionFailed:
		return datastore.ErrExists
	case r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden:
		return datastore.ErrUnauthorized
	case r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500:
		return datastore.ErrTemporary
	}
	return nil
}

// clock reads the store's time from the answers that pass, and stops those that
// are no store's.
type clock struct {
	next http.RoundTripper

	mu     sync.Mutex
	date   time.Time // in the middle of what the last answer may have meant
	within time.Duration
	at     time.Time // when that was, by this machine's clocks
}

// RoundTrip implements http.RoundTripper.
func (c *clock) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	answer, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		// A Date is cut to seconds, and was set somewhere between asking and now.
		now := time.Now()
		within := (time.Second + now.Sub(asked)) / 2
		c.mu.Lock()
		c.date, c.within, c.at = date.Add(within), within, now
		c.mu.Unlock()
	}
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode == http.StatusOK && r.URL.Query().Has("list-type") && !strings.Contains(kind, "xml") {
		_ = answer.Body.Close() // minio-go takes a web page for an empty listing
		return nil, fmt.Errorf("what answers is no S3 server: a listing is of the type %q", kind)
	}
	return answer, nil
}

// now goes on from the last answer by the faster of this machine's clocks: the
// one that never jumps stands still while a virtual machine is suspended.
func (c *clock) now() (now time.Time, within time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.date.IsZero() {
		return time.Time{}, 0, false
	}
	steady := time.Since(c.at)
	wall := time.Now().Round(0).Sub(c.at.Round(0))
	return c.date.Add(max(steady, wall)), c.within, true
}
