package datastore

import (
	"context"
	"fmt"
	"time"
)

// Chain is several stores as one, as the original chains S3 endpoints: what is
// written goes to all, the first one is read and says what is new. The others are
// copies for whoever reads them.
type Chain []Store

var _ Store = Chain(nil)

// List implements Store.
func (c Chain) List(ctx context.Context, bucket, prefix string) ([]Object, error) {
	return c[0].List(ctx, bucket, prefix)
}

// Get implements Store.
func (c Chain) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	return c[0].Get(ctx, bucket, key)
}

// Now implements Store.
func (c Chain) Now(ctx context.Context) (time.Time, time.Duration, error) { return c[0].Now(ctx) }

// Put implements Store. Where the first one fails, the others are not asked.
func (c Chain) Put(ctx context.Context, bucket, key string, content []byte) error {
	return c.all(func(s Store) error { return s.Put(ctx, bucket, key, content) })
}

// Delete implements Store.
func (c Chain) Delete(ctx context.Context, bucket, key string) error {
	return c.all(func(s Store) error { return s.Delete(ctx, bucket, key) })
}

// Create implements Store: the first one alone has what is made so. A condition
// that holds in one of several stores only would be none.
func (c Chain) Create(ctx context.Context, bucket, key string, content []byte) error {
	return c[0].Create(ctx, bucket, key, content)
}

func (c Chain) all(do func(Store) error) error {
	for i, s := range c {
		if err := do(s); err != nil {
			if i > 0 {
				return fmt.Errorf("the first store has it, store %d of %d not: %w", i+1, len(c), err)
			}
			return err
		}
	}
	return nil
}
