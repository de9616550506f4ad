package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"adt/provider"
)

// repeats is how often a request is sent again that failed for a passing
// reason. Only those whose repetition is harmless are: never one that creates.
const repeats = 2

// largestAnswer is more than any answer of the API has, in bytes.
const largestAnswer = 16 << 20

// transport repeats what may be repeated, and turns every answer that is no
// success into an error: the SDK would drop what it says of limits, and take
// "{}" for an empty zone.
type transport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	harmless := request.Method == http.MethodGet || request.Method == http.MethodDelete
	for try := 0; ; try++ {
		response, err := t.once(request)
		if err == nil || !harmless || try == repeats || !errors.Is(err, provider.ErrTemporary) || request.Context().Err() != nil {
			return response, err
		}
		pause := time.NewTimer(100*time.Millisecond<<try + rand.N(100*time.Millisecond))
		select {
		case <-request.Context().Done():
			pause.Stop()
			return nil, request.Context().Err()
		case <-pause.C:
		}
	}
}

func (t *transport) once(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, temporary(request.Context(), err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return nil, temporary(request.Context(), err)
	}
	if err := refusal(response, body, time.Now()); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func temporary(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", provider.ErrTemporary, err)
}

// apiError is what the API said instead of doing what was asked.
type apiError struct {
	status int
	codes  []int
	text   string
	kind   error // one of package provider, or nil
}

func (e *apiError) Error() string {
	if e.kind != nil {
		return fmt.Sprintf("%v: %s", e.kind, e.text)
	}
	return e.text
}

func (e *apiError) Unwrap() error { return e.kind }

func (e *apiError) is(codes ...int) bool {
	return slices.ContainsFunc(codes, func(c int) bool { return slices.Contains(e.codes, c) })
}

// The API's codes. They are listed with each operation in its documentation.
const (
	codeInvalidObject  = 7000 // no route for the request
	codeInvalidRoute   = 7003 // could not route: an id in the path is wrong
	codeZoneUnknown    = 1001
	codeBadHeaders     = 6003 // no credentials, or of a wrong form
	codeBadToken       = 6111
	codeAuthentication = 10000
	codeNotPermitted   = 9109
	codeNoRecord       = 81044
	codeTooManyRecords = 81045
	codeRecordExists   = 81057
	codeSameRecord     = 81058
)

// refusal is the error that an answer is; nil for a success.
func refusal(response *http.Response, body []byte, now time.Time) error {
	var said struct {
		Success *bool `json:"success"`
		Result  json.RawMessage
		Errors  []struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	garbage := json.Unmarshal(body, &said) != nil
	status := response.StatusCode
	e := &apiError{status: status, text: http.StatusText(status)}
	var texts []string
	for _, s := range said.Errors {
		e.codes = append(e.codes, s.Code)
		texts = append(texts, fmt.Sprintf("%s (%d)", oneLine(s.Message), s.Code))
	}
	if len(texts) > 0 {
		e.text = strings.Join(texts, ", ")
	}
	switch {
	case status == http.StatusTooManyRequests:
		return &provider.RateLimitError{Until: welcome(response.Header, now)}
	case status >= 500 || status == http.StatusRequestTimeout:
		e.kind = provider.ErrTemporary
	case status < 400 && (garbage || len(said.Result) == 0 || said.Success != nil && !*said.Success):
		e.kind, e.text = provider.ErrTemporary, "an answer that says neither yes nor no"
	case status < 300:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden,
		e.is(codeBadHeaders, codeBadToken, codeAuthentication, codeNotPermitted):
		e.kind = provider.ErrUnauthorized
	case e.is(codeTooManyRecords):
		e.kind = provider.ErrQuota
	case status == http.StatusNotFound, e.is(codeNoRecord, codeInvalidRoute, codeInvalidObject, codeZoneUnknown):
		e.kind = provider.ErrNotFound
	}
	return e
}

// welcome is when calls are welcome again: as the answer says, or else in five
// minutes, over which the vendor counts.
func welcome(header http.Header, now time.Time) time.Time {
	if seconds, err := strconv.ParseInt(header.Get("Retry-After"), 10, 32); err == nil && seconds >= 0 {
		return now.Add(time.Duration(seconds) * time.Second)
	}
	return now.Add(5 * time.Minute)
}

// classify makes the kind of a failed call testable with errors.Is.
func classify(ctx context.Context, err error) error {
	var said *apiError
	var limited *provider.RateLimitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &said):
		return said
	case errors.As(err, &limited):
		return limited
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s", provider.ErrTemporary, callTimeout)
	case errors.Is(err, errSetting):
		return err
	}
	return fmt.Errorf("%w: %s", provider.ErrTemporary, oneLine(err.Error())) // of the network, or an answer that is none
}

// oneLine keeps a vendor's message short; a page of HTML says nothing.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}
