package notify

import "time"

// Trying is trying, for the tests of what is decided.
func Trying(s State, now time.Time, way, id string) State { return s.trying(now, way, id) }

// Delivered is delivered.
func Delivered(s State, now time.Time, way, id string) State { return s.delivered(now, way, id) }

// Refused is refused.
func Refused(s State, way, id, why string) State { return s.refused(way, id, why) }
