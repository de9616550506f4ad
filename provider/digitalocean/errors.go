package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/digitalocean/godo"

	"adt/provider"
)

// errSetting is a name in the configuration that the account does not know. It
// is no provider.ErrNotFound, which is about servers and records.
var errSetting = errors.New("not at DigitalOcean")

// errForbidden is about one call; other calls with the same token may be let in.
var errForbidden = fmt.Errorf("%w: forbidden", provider.ErrUnauthorized)

// classify turns what went wrong into one of the kinds of package provider. An
// error without a kind is a refusal that a repeat would meet again. The
// caller's own end stays recognisable, and nothing else looks like it.
func classify(caller context.Context, err error) error {
	var answer *godo.ErrorResponse
	if errors.As(err, &answer) && answer.Response != nil {
		return classifyAnswer(answer, time.Now())
	}
	if errors.Is(err, provider.ErrTemporary) {
		return err
	}
	if end := ended(caller); end != nil {
		return end
	}
	// A connection that was refused, cut or silent, or a body that is none of
	// the API's. The cause is not wrapped: it may be our own deadline.
	if sent := (*url.Error)(nil); errors.As(err, &sent) {
		err = sent.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer in time", provider.ErrTemporary)
	}
	return fmt.Errorf("%w: %s", provider.ErrTemporary, oneLine(err.Error()))
}

// ended is why the context is over, or nil. A connection may notice a deadline
// a moment before the context does.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func classifyAnswer(answer *godo.ErrorResponse, now time.Time) error {
	status := answer.Response.StatusCode
	text := fmt.Sprintf("HTTP %d: %s", status, oneLine(answer.Message))
	if answer.Message == "" {
		text = fmt.Sprintf("HTTP %d %s", status, http.StatusText(status))
	}
	switch {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%w: %s", provider.ErrUnauthorized, text)
	case status == http.StatusForbidden:
		return fmt.Errorf("%w: %s", errForbidden, text)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %s", provider.ErrNotFound, text)
	case status == http.StatusTooManyRequests:
		return &provider.RateLimitError{Until: welcome(answer.Response.Header, now)}
	case status == http.StatusUnprocessableEntity && isQuota(answer.Message):
		return fmt.Errorf("%w: %s", provider.ErrQuota, text)
	case status >= 500, status == http.StatusRequestTimeout:
		return fmt.Errorf("%w: %s", provider.ErrTemporary, text)
	case status < 400: // not the API, which answers itself
		return fmt.Errorf("%w: %s: something else answers at the API's address", provider.ErrTemporary, text)
	}
	return errors.New(text)
}

// empty makes an error of an answer that should have been 204 and is something
// else that looks like success: a proxy's page destroys nothing.
func empty(response *godo.Response, err error) error {
	if err == nil && response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w: HTTP %d where the API answers %d", provider.ErrTemporary, response.StatusCode, http.StatusNoContent)
	}
	return err
}

// isQuota recognises the refusal of a server beyond the account's limit, which
// has no code of its own.
func isQuota(message string) bool {
	message = strings.ToLower(message)
	return strings.Contains(message, "droplet limit") || strings.Contains(message, "quota")
}

// welcome is when calls are welcome again: the Retry-After of whichever limit
// was met, or the reset of the hour's, or else a minute from now, as the limit
// of a minute is the shortest. It is never more than an hour, the longest.
func welcome(header http.Header, now time.Time) time.Time {
	until := now.Add(time.Minute)
	if seconds, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32); err == nil && seconds >= 0 {
		until = now.Add(time.Duration(seconds) * time.Second)
	} else if unix, err := strconv.ParseInt(header.Get("RateLimit-Reset"), 10, 64); err == nil && unix > now.Unix() {
		until = time.Unix(unix, 0)
	}
	if longest := now.Add(time.Hour); until.After(longest) {
		return longest
	}
	return until
}

// oneLine keeps a vendor's message short and printable; a page of HTML says
// nothing.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}
