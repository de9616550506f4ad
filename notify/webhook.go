package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Webhook is the way to a URL that takes JSON.
type Webhook struct {
	URL     string // a secret: who knows Slack's may write there
	Roots   *x509.CertPool
	Timeout time.Duration
}

// Name is that of the way in the record and in events.
func (Webhook) Name() string { return "webhook" }

// Server is the host of the URL, which is no secret.
func (w Webhook) Server() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "?"
	}
	return u.Host
}

// Deliver posts a letter; an answer of 2xx has taken it. The error is a
// *DeliveryError.
func (w Webhook) Deliver(ctx context.Context, l Letter) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(l.JSON))
	if err != nil {
		return w.failed(errors.New("notify.webhook is no address"), "") // the cause would quote it
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "adt")
	request.Header.Set("Idempotency-Key", l.ID)
	client := &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.Roots, MinVersion: tls.VersionTLS12}},
		// A secret URL is for one host, and a POST that is redirected arrives as a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err // without the URL
	}
	if err != nil && (ctx.Err() != nil || timedOut(err)) {
		err = unanswered(ctx, w.Timeout)
	}
	if err != nil {
		return w.failed(err, hintOf(err))
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 200))
	if response.StatusCode/100 == 2 {
		return nil
	}
	return w.failed(fmt.Errorf("answered %s%s", response.Status, w.quote(said)), refusal(response))
}

// quote is what an answer says besides its status, such as Slack's
// "no_service". One that may repeat the secret is left out.
func (w Webhook) quote(said []byte) string {
	text := oneLine(string(said))
	plain := strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz0123456789_-. ") == ""
	if text == "" || !plain || len(text) > 80 {
		return ""
	}
	if u, err := url.Parse(w.URL); err == nil {
		for part := range strings.FieldsFuncSeq(u.Path+"/"+u.RawQuery, func(r rune) bool { return strings.ContainsRune("/&=", r) }) {
			if strings.Contains(strings.ToLower(text), strings.ToLower(part)) {
				return ""
			}
		}
	}
	return ": " + text
}

func refusal(r *http.Response) string {
	switch code := r.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		return "nobody listens at this URL any more: make a new webhook there and set notify.webhook"
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return "the URL is not allowed to post: make a new webhook there and set notify.webhook"
	case code/100 == 3:
		return "redirects are not followed, as the URL is a secret: set notify.webhook to where it leads"
	case code == http.StatusTooManyRequests:
		return "there were too many messages for it: lower notify.per_hour"
	case code/100 == 5:
		return "the other side is in trouble; the message is kept and tried again"
	}
	return "does this URL take a POST of JSON with a field text?"
}

func hintOf(err error) string {
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &authority):
		return "set notify.ca to the file with the certificate of the server's authority"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, new(net.Error)):
		return "is notify.webhook right, and does this machine reach it?"
	}
	return "the message is kept and tried again"
}

func (w Webhook) failed(err error, hint string) error {
	return &DeliveryError{Way: w.Name(), Text: w.Server() + ": " + oneLine(said(err)), Hint: hint, cause: err}
}
