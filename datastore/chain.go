package datastore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Chain is several stores as one, as the original chains S3 endpoints: what is
// written goes to all, the first one is read and says what is new. The others are
// copies for whoever reads them: one that is away stops nothing.
type Chain struct {
	first  Store
	copies []*copied
	behind func(error)
}

// copied is a further store of a chain.
type copied struct {
	Store
	away atomic.Bool // it did not answer, and is not asked again by this process
}

var (
	_ Store  = (*Chain)(nil)
	_ Prober = (*Chain)(nil)
)

// copyTimeout bounds what a copy may take, whatever is left of the caller's time.
const copyTimeout = 5 * time.Second

// NewChain returns a chain of stores. behind is told of each write that a copy has
// missed; one that does not answer is told of once.
func NewChain(behind func(error), first Store, copies ...Store) *Chain {
	c := &Chain{first: first, behind: behind}
	for _, s := range copies {
		c.copies = append(c.copies, &copied{Store: s})
	}
	return c
}

// List implements Store.
func (c *Chain) List(ctx context.Context, bucket, prefix string) ([]Object, error) {
	return c.first.List(ctx, bucket, prefix)
}

// Get implements Store.
func (c *Chain) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	return c.first.Get(ctx, bucket, key)
}

// Now implements Store.
func (c *Chain) Now(ctx context.Context) (time.Time, time.Duration, error) { return c.first.Now(ctx) }

// Put implements Store. Where the first store fails, the others are not asked.
func (c *Chain) Put(ctx context.Context, bucket, key string, content []byte) error {
	return c.all(ctx, func(ctx context.Context, s Store) error { return s.Put(ctx, bucket, key, content) })
}

// Delete implements Store.
func (c *Chain) Delete(ctx context.Context, bucket, key string) error {
	return c.all(ctx, func(ctx context.Context, s Store) error { return s.Delete(ctx, bucket, key) })
}

// Create implements Store: the first store alone has what is made so. A condition
// that holds in one of several stores only would be none.
func (c *Chain) Create(ctx context.Context, bucket, key string, content []byte) error {
	return c.first.Create(ctx, bucket, key, content)
}

// Conditional implements Prober: for the store in which things are made.
func (c *Chain) Conditional(ctx context.Context, bucket, key string) (bool, error) {
	if p, ok := c.first.(Prober); ok {
		return p.Conditional(ctx, bucket, key)
	}
	return true, nil
}

func (c *Chain) all(ctx context.Context, do func(context.Context, Store) error) error {
	if err := do(ctx, c.first); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i, s := range c.copies {
		if s.away.Load() {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), copyTimeout)
			defer cancel()
			err := do(ctx, s.Store)
			if err == nil {
				return
			}
			away := ctx.Err() != nil || errors.Is(err, ErrTemporary)
			if s.away.CompareAndSwap(false, away) {
				c.behind(fmt.Errorf("endpoint %d of %d lacks what the first one has: %w", i+2, len(c.copies)+1, err))
			}
		})
	}
	wg.Wait()
	return nil
}
