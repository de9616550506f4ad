package digitalocean

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// repeats is how often a request is sent again that failed for a passing
// reason. Only those whose repetition is harmless are: never one that creates.
const repeats = 2

// largestAnswer is in bytes; a page of 200 droplets has about one million.
const largestAnswer = 32 << 20

// transport adds the token, repeats what may be repeated, and reads the quota.
type transport struct {
	next  http.RoundTripper
	token string
	quota *quota
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+t.token)
	harmless := request.Method == http.MethodGet || request.Method == http.MethodDelete
	for try := 0; ; try++ {
		response, err := t.send(request)
		passing := err != nil || response.StatusCode >= 500
		if !passing || !harmless || try == repeats || request.Context().Err() != nil {
			return response, err
		}
		if err := pause(request.Context(), 200*time.Millisecond<<try); err != nil {
			return nil, err
		}
	}
}

// pause waits that long and up to half as long again, so that autoscalers that
// failed together do not return together.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// send sends the request once and reads the whole answer, so that one which
// breaks off or is no JSON fails where it may be asked for again.
func (t *transport) send(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	t.quota.read(response.Header)
	body, err := io.ReadAll(http.MaxBytesReader(nil, response.Body, largestAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case response.StatusCode >= 300: // what a proxy complains about may quote the request
		body = bytes.ReplaceAll(body, []byte(t.token), []byte("[token]"))
	case request.Method == http.MethodGet && !json.Valid(body):
		return nil, errors.New("the answer is no JSON")
	}
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, nil
}

// quota is how many requests the token has left in this hour.
type quota struct {
	reserve int
	note    func(string)

	mu    sync.Mutex
	left  int
	known bool
	noted bool
}

func (q *quota) read(header http.Header) {
	left, err := strconv.Atoi(header.Get("RateLimit-Remaining"))
	if err != nil {
		return
	}
	q.mu.Lock()
	q.left, q.known = left, true
	say := left < q.reserve && !q.noted
	q.noted = q.noted || say
	q.mu.Unlock()
	if say {
		q.note(fmt.Sprintf("the token has %d API requests left in this hour, below the reserve of %d: only what heals is asked for", left, q.reserve))
	}
}

// Quota implements provider.Metered: the API requests that the token has left
// in this hour.
func (c *Cloud) Quota() (left int, known bool) {
	c.quota.mu.Lock()
	defer c.quota.mu.Unlock()
	return c.quota.left, c.quota.known
}
