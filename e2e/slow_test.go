//go:build !race

package e2e

// slowness is how much longer the same work may take; see slow_race_test.go.
const slowness = 1
