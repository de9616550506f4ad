//go:build race

package e2e

// slowness is how much longer the same work may take: the race detector slows
// the webservers down as well.
const slowness = 3
