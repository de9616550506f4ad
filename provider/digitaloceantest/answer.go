package digitaloceantest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"adt/provider"
)

// object is one of JSON's.
type object map[string]any

func answer(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails when the client is gone
}

// refusal is how the vendor words an error.
func refusal(id, message string) object {
	return object{"id": id, "message": message, "request_id": "4d9d8375-3c56-4925-a3e7-eb137fed17e9"}
}

func notFound() (int, any) {
	return http.StatusNotFound, refusal("not_found", "The resource you were accessing could not be found.")
}

func unprocessable(format string, args ...any) (int, any) {
	return http.StatusUnprocessableEntity, refusal("unprocessable_entity", fmt.Sprintf(format, args...))
}

// failed is an answer for what the backing did not do.
func failed(err error) (int, any) {
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return notFound()
	case errors.Is(err, provider.ErrUnauthorized):
		return http.StatusUnauthorized, refusal("unauthorized", "Unable to authenticate you")
	case errors.Is(err, provider.ErrRateLimited):
		return http.StatusTooManyRequests, refusal("too_many_requests", "API Rate limit exceeded.")
	case errors.Is(err, provider.ErrQuota):
		return unprocessable("creating this/these droplet(s) will exceed your droplet limit")
	}
	return http.StatusServiceUnavailable, refusal("service_unavailable", err.Error())
}

// The vendor's pages.
const (
	usualPage   = 20
	largestPage = 200
)

// paged answers the page of a listing that the request asks for.
func paged[T any](r *http.Request, name string, items []T) (int, any) {
	query := r.URL.Query()
	page, err := number(query, "page", 1)
	if err != nil {
		return unprocessable("%v", err)
	}
	size, err := number(query, "per_page", usualPage)
	if err != nil || size > largestPage {
		return unprocessable("per_page must be from 1 to %d", largestPage)
	}
	last := max(1, (len(items)+size-1)/size)
	from := min((page-1)*size, len(items))
	to := min(from+size, len(items))
	return http.StatusOK, object{
		name:    append([]T{}, items[from:to]...), // never null
		"meta":  object{"total": len(items)},
		"links": links(r, page, last),
	}
}

// links are those of the vendor: none at all when there is one page.
func links(r *http.Request, page, last int) object {
	to := func(page int) string {
		query := r.URL.Query()
		query.Set("page", strconv.Itoa(page))
		return (&url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawQuery: query.Encode()}).String()
	}
	pages := object{}
	if page > 1 {
		pages["first"], pages["prev"] = to(1), to(page-1)
	}
	if page < last {
		pages["next"], pages["last"] = to(page+1), to(last)
	}
	if len(pages) == 0 {
		return object{}
	}
	return object{"pages": pages}
}

func number(query url.Values, name string, usual int) (int, error) {
	text := query.Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s must be a number above 0", name)
	}
	return n, nil
}

// numbers are the vendor's ids: ascending, never given twice. The backing's
// own get one each, by the order in which they are first seen.
type numbers struct {
	known map[string]int
	last  int
}

// firstID makes ids look like the vendor's and unlike small counts.
const firstID = 3164000

func (n *numbers) next() int {
	n.last++
	return firstID + n.last
}

func (n *numbers) of(kind, id string) int {
	k := kind + " " + id
	if n.known[k] == 0 {
		n.known[k] = n.next()
	}
	return n.known[k]
}

// backing is the backing's id of a number.
func (n *numbers) backing(kind string, number int) (id string, known bool) {
	for k, v := range n.known {
		if id, is := strings.CutPrefix(k, kind+" "); is && v == number {
			return id, true
		}
	}
	return "", false
}
