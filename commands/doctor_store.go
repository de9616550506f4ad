package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"adt/autoscaler"
	"adt/config"
	"adt/datastore"
	"adt/datastore/s3"
)

// examineStore asks whether profiles can be read and leases be held.
func examineStore(ctx context.Context, cfg *config.Config, fix bool) []finding {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if cfg.Datastore.Driver == "s3" {
		return examineS3(ctx, cfg, fix)
	}
	if folder := examineFolder("datastore", cfg.Datastore.Path); !folder.OK || missing(cfg.Datastore.Path) {
		return []finding{folder} // opening it would make it
	}
	store, err := openStore(cfg, func(error) {}) // nothing is written
	if err == nil {
		_, _, err = autoscaler.Profiles{Store: store, Bucket: cfg.ScalingBucket()}.Get(ctx, cfg.Autoscaler.Number)
	}
	if err != nil {
		return []finding{wrong("datastore", "it must be there and readable, or no profile is known", "%v", err)}
	}
	return []finding{fine("datastore", "%s %s", cfg.Datastore.Driver, cfg.Datastore.Path)}
}

func examineS3(ctx context.Context, cfg *config.Config, fix bool) []finding {
	stores, err := endpoints(cfg)
	if err != nil {
		return []finding{wrong("datastore", "put that right in "+cfg.Path, "%v", err)}
	}
	var all []finding
	for i, store := range stores {
		what := "datastore " + cfg.Datastore.Endpoints[i]
		sound := true
		buckets := []string{cfg.ScalingBucket(), cfg.ConfigBucket()}
		if cfg.Database.MultiRegion {
			buckets = append(buckets, cfg.RegionsBucket())
		}
		for _, bucket := range buckets {
			f := examineBucket(ctx, store, what, bucket, fix)
			sound = sound && f.OK
			all = append(all, f)
		}
		if sound && i == 0 { // what is read and leased is the first
			all = append(all, examineStoreClock(ctx, store))
			if cfg.Shared() {
				all = append(all, examineLeases(ctx, store, cfg.ScalingBucket()))
			}
		}
	}
	return all
}

func examineBucket(ctx context.Context, store *s3.Store, what, bucket string, fix bool) finding {
	_, err := store.List(ctx, bucket, "adt-doctor")
	if errors.Is(err, datastore.ErrNoBucket) && fix {
		if err = store.MakeBucket(ctx, bucket); err == nil {
			return fine(what, "bucket %s was made", bucket)
		}
	}
	hint := map[error]string{
		datastore.ErrNoBucket:     "adt doctor --fix makes it, or is datastore.endpoints another one?",
		datastore.ErrUnauthorized: "are datastore.access_key and secret_key of this endpoint, and may they list, write and delete in this bucket?",
		datastore.ErrClock:        "set this machine's clock: run a time service, such as chrony",
		datastore.ErrTemporary:    "is datastore.endpoints right, and does this machine reach it?",
	}
	for kind, text := range hint {
		if errors.Is(err, kind) {
			return wrong(what, text, "%v", err)
		}
	}
	if err != nil {
		return wrong(what, "", "%v", err)
	}
	return fine(what, "bucket %s", bucket)
}

// clockTolerance is how far the clocks may be apart; S3 refuses requests at 15
// minutes.
const clockTolerance = time.Minute

func examineStoreClock(ctx context.Context, store *s3.Store) finding {
	const what = "datastore's clock"
	now, within, err := store.Now(ctx)
	if err != nil {
		return wrong(what, "", "%v", err)
	}
	skew := time.Since(now).Round(100 * time.Millisecond)
	if skew.Abs() > clockTolerance+within {
		return wrong(what, "run a time service, such as chrony: S3 refuses requests that are 15 minutes off", "this machine is %s ahead of it", skew)
	}
	return fine(what, "this machine is %s ahead of it, give or take %s", skew, within.Round(100*time.Millisecond))
}

func examineLeases(ctx context.Context, store *s3.Store, bucket string) finding {
	const what = "leases"
	able, err := store.Conditional(ctx, bucket, fmt.Sprintf("adt-doctor/%s", rand.Text()))
	switch {
	case err != nil:
		return wrong(what, "may the keys write and delete in this bucket?", "%v", err)
	case !able:
		return wrong(what, "set datastore.takeover = false, or use a vendor that honours it",
			"the datastore ignores If-None-Match: *, so that two autoscalers could hold one lease; none is taken over there")
	}
	return fine(what, "the datastore honours If-None-Match: *")
}
