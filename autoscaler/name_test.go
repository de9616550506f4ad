package autoscaler

import (
	"strings"
	"testing"
)

var shop = Fleet{Region: "lon1", Build: "shop", User4: "agil"}

func TestParse(t *testing.T) {
	dashed := Fleet{Region: "ch-gva-2", Build: "test-gb-lon", User4: "agil"}
	own, initial := func(shard int) Name { return Name{Shard: shard} }, func(shard int) Name { return Name{shard, true} }
	none := Name{}
	for _, c := range []struct {
		fleet Fleet
		name  string
		want  Name // none: foreign
	}{
		{shop, "ws-lon1-shop-1-agil-x7Qp", own(1)},
		{shop, "ws-lon1-shop-5-agil-0000", own(5)},
		{shop, "ws-lon1-shop-2-agil-init-1", initial(2)},
		{shop, "ws-lon1-shop-2-agil-init-12", initial(2)},
		{shop, "ws-lon1-shop-1-agil-init", own(1)}, // four characters, as any
		{dashed, "ws-ch-gva-2-test-gb-lon-3-agil-x7Qp", own(3)},
		{dashed, "ws-ch-gva-2-test-gb-lon-3-agil-init-1", initial(3)},
		{Fleet{"a", "b-1-agil", "agil"}, "ws-a-b-1-agil-2-agil-x7Qp", own(2)},
		{Fleet{"a", "init-1", "agil"}, "ws-a-init-1-2-agil-x7Qp", own(2)},

		// Autoscaler 1 does not own what is 10's.
		{shop, "ws-lon1-shop-10-agil-x7Qp", none},
		{shop, "ws-lon1-shop-11-agil-x7Qp", none},
		{shop, "ws-lon1-shop-6-agil-x7Qp", none},
		{shop, "ws-lon1-shop-0-agil-x7Qp", none},
		{shop, "ws-lon1-shop-01-agil-x7Qp", none},
		{shop, "ws-lon1-shop-+1-agil-x7Qp", none},
		{shop, "ws-lon1-shop--1-agil-x7Qp", none},
		// A longer or shorter build, another region, another user.
		{shop, "ws-lon1-shop-1-1-agil-x7Qp", none},
		{shop, "ws-lon1-shop1-1-agil-x7Qp", none},
		{shop, "ws-lon1-sho-1-agil-x7Qp", none},
		{shop, "ws-lon10-shop-1-agil-x7Qp", none},
		{shop, "ws-lon1-shop-1-agile-x7Qp", none},
		{shop, "ws-lon1-shop-1-agi-x7Qp", none},
		{shop, "ws-lon1-shop-1-root-x7Qp", none},
		{Fleet{"lon1", "test", "agil"}, "ws-lon1-test-1-1-agil-x7Qp", none}, // of the build test-1
		{Fleet{"lon1", "test-1", "agil"}, "ws-lon1-test-1-agil-x7Qp", none}, // of the build test
		// Other machines, and what is around a name.
		{shop, "rp-lon1-shop-1-agil-x7Qp", none},
		{shop, "db-lon1-shop-1-agil-x7Qp", none},
		{shop, "xws-lon1-shop-1-agil-x7Qp", none},
		{shop, " ws-lon1-shop-1-agil-x7Qp", none},
		{shop, "ws-lon1-shop-1-agil-x7Qp\n", none},
		{shop, "WS-lon1-shop-1-agil-x7Qp", none},
		{shop, "ws-lon1-shop-1-agil-x7Q", none},
		{shop, "ws-lon1-shop-1-agil-x7Qpp", none},
		{shop, "ws-lon1-shop-1-agil-x7Q_", none},
		{shop, "ws-lon1-shop-1-agil-x7Qp-1", none},
		{shop, "ws-lon1-shop-1-agil-init-", none},
		{shop, "ws-lon1-shop-1-agil-init-x", none},
		{shop, "ws-lon1-shop-1-agil-init-1-2", none},
		{shop, "ws-lon1-shop-1-agil-Init-1", none},
		{shop, "ws-lon1-shop-1-agil-", none},
		{shop, "ws-lon1-shop-1", none},
		{shop, "ws-lon1-shop-", none},
		{shop, "", none},
	} {
		got, ok := c.fleet.Parse(c.name)
		if want := c.want != none; ok != want || ok && got != c.want {
			t.Errorf("%+v.Parse(%q) is %+v, %v; want %+v, %v", c.fleet, c.name, got, ok, c.want, want)
		}
	}
}

func TestUser4(t *testing.T) {
	for user, want := range map[string]string{"agile": "agil", "agil": "agil", "www": "www", "": ""} {
		if got := User4(user); got != want {
			t.Errorf("User4(%q) is %q, want %q", user, got, want)
		}
	}
}

func TestRandomTail(t *testing.T) {
	for n := range len(alphabet) {
		tail := RandomTail(func(int) int { return n })
		if name, ok := shop.Parse(shop.Name(3, tail)); !ok || name != (Name{Shard: 3}) {
			t.Errorf("the tail %q makes no name of the fleet", tail)
		}
	}
}

// FuzzParse: a name that is taken apart is put together again the same.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"ws-lon1-shop-1-agil-x7Qp", "ws-lon1-shop-10-agil-x7Qp", "ws-lon1-shop-2-agil-init-12", "ws-lon1-shop-1-1-agil-x7Qp"} {
		f.Add("lon1", "shop", "agil", name)
	}
	f.Add("ch-gva-2", "test-gb-lon", "agil", "ws-ch-gva-2-test-gb-lon-3-agil-init-1")
	f.Add("", "", "", "ws---1--abcd")
	f.Fuzz(func(t *testing.T, region, build, user, name string) {
		fleet := Fleet{region, build, user}
		n, ok := fleet.Parse(name)
		if !ok {
			return
		}
		tail := name[strings.LastIndexByte(name, '-')+1:]
		again := fleet.Name(n.Shard, tail)
		if n.Initial {
			again = fleet.Name(n.Shard, "init-"+tail)
		}
		if again != name || n.Shard < 1 || n.Shard > MaxAutoscalers {
			t.Errorf("%+v: %q is taken for %+v, whose name is %q", fleet, name, n, again)
		}
	})
}
