package autoscaler

import (
	"context"
	"sync"
	"time"

	"adt/provider"
)

// shared lets many builds and terminations look at one listing: whoever needs
// a newer one than there is fetches it for all.
type shared[T any] struct {
	fetch func(context.Context) ([]T, error)
	now   func() time.Time

	mu    sync.Mutex
	items []T
	taken time.Time // when the fetch began; zero before the first
	err   error
}

// since returns a listing that was begun at or after t, and when it was begun.
func (s *shared[T]) since(ctx context.Context, t time.Time) ([]T, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken.IsZero() || s.taken.Before(t) {
		s.taken = s.now()
		s.items, s.err = s.fetch(ctx)
	}
	return s.items, s.taken, s.err
}

// looks is what the builds and terminations of one run share.
type looks struct {
	servers *shared[provider.Server]
	records *shared[provider.Record]
}

func (a *Autoscaler) looks() *looks {
	return &looks{
		servers: &shared[provider.Server]{fetch: a.survey, now: a.Now},
		records: &shared[provider.Record]{fetch: a.records, now: a.Now},
	}
}
