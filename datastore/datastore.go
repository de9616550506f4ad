// Package datastore is what autoscalers and the build machine share: objects
// in buckets, as in S3. Their keys carry the meaning (see package autoscaler);
// this package must not know it.
package datastore

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound says that there is no such object.
var ErrNotFound = errors.New("no such object")

// Object is one entry of a listing.
type Object struct {
	Key      string
	Modified time.Time // by the store's clock
}

// Store holds objects. Keys may contain '/' and ':'.
type Store interface {
	// List returns all objects of the bucket whose keys begin with prefix, in
	// the order of their keys, or an error, never part. A bucket that does not
	// exist is empty.
	List(ctx context.Context, bucket, prefix string) ([]Object, error)
	// Get returns an object's content; the error wraps ErrNotFound when there
	// is none.
	Get(ctx context.Context, bucket, key string) ([]byte, error)
	// Put writes an object, replacing what was there.
	Put(ctx context.Context, bucket, key string, content []byte) error
	// Delete removes exactly the object with that key. One that is not there
	// is no error.
	Delete(ctx context.Context, bucket, key string) error
}
