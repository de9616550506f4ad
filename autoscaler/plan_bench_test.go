package autoscaler

import (
	"fmt"
	"testing"
	"time"

	"adt/provider"
)

// BenchmarkPlan10000 plans for a listing of 10,000 servers, of which the own
// shard has 2,000 and 1,000 of them are too many.
func BenchmarkPlan10000(b *testing.B) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fleet := Fleet{Region: "lon1", Build: "shop", User4: "agil"}
	o := Observation{Profile: &Profile{Count: 1000}, Known: map[string]Known{}}
	for i := range 10000 {
		s := provider.Server{ID: fmt.Sprint(i), Name: fleet.Name(1+i%5, fmt.Sprintf("%04d", i)), Created: now.Add(-time.Duration(i) * time.Second)}
		o.Servers = append(o.Servers, s)
		o.Known[s.ID] = Known{ID: s.ID, Online: i%7 != 0, Strikes: i % 3}
	}
	rules := Rules{Fleet: fleet, Shard: 1, Max: 5000}
	for b.Loop() {
		if len(Plan(now, rules, o)) != 1000 {
			b.Fatal("the plan is wrong")
		}
	}
}
