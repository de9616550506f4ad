// Package datastore is what autoscalers and the build machine share: objects
// in buckets, as in S3. Their keys carry the meaning (see package autoscaler);
// this package must not know it.
package datastore

import (
	"context"
	"errors"
	"time"
)

// Why a store did not do what it was asked, to be tested with errors.Is.
var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("no such object")
	// ErrExists: there is an object of that key already.
	ErrExists = errors.New("there is such an object already")
	// ErrNoBucket: there is no such bucket.
	ErrNoBucket = errors.New("no such bucket")
	// ErrUnauthorized: the store refuses our keys, or these may not do that.
	ErrUnauthorized = errors.New("refused by the store")
	// ErrClock: the store refuses requests because this machine's clock differs
	// too much from its own.
	ErrClock = errors.New("this machine's clock differs too much from the store's")
	// ErrTemporary: the store could not be reached or is overloaded.
	ErrTemporary = errors.New("the store does not answer")
)

// Object is one entry of a listing.
type Object struct {
	Key      string
	Modified time.Time // by the store's clock
}

// Store holds objects. Keys may contain '/' and ':'.
type Store interface {
	// List returns all objects of the bucket whose keys begin with prefix, in
	// the order of their keys, or an error, never part. A bucket that does not
	// exist is empty or an error that wraps ErrNoBucket, by the driver.
	List(ctx context.Context, bucket, prefix string) ([]Object, error)
	// Get returns an object's content; the error wraps ErrNotFound when there
	// is none.
	Get(ctx context.Context, bucket, key string) ([]byte, error)
	// Put writes an object, replacing what was there.
	Put(ctx context.Context, bucket, key string, content []byte) error
	// Create writes an object only where there is none of that key; else the
	// error wraps ErrExists. Of several writers at once exactly one succeeds. After
	// any other error the object may be there.
	Create(ctx context.Context, bucket, key string, content []byte) error
	// Delete removes exactly the object with that key. One that is not there
	// is no error.
	Delete(ctx context.Context, bucket, key string) error
	// Now is what the store's clock shows, by which Object.Modified is set; it is
	// right within the second result. It asks the store only if nothing else was
	// asked before.
	Now(ctx context.Context) (now time.Time, within time.Duration, err error)
}

// Prober is a Store whose vendor may not honour the condition under Create. A store
// without this method honours it.
type Prober interface {
	// Conditional reports whether the vendor does, on an object of that key that it
	// makes and deletes.
	Conditional(ctx context.Context, bucket, key string) (bool, error)
}

// Precision is by how much Object.Modified may differ from the store's clock:
// some stores count whole seconds.
const Precision = 2 * time.Second
