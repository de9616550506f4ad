package local

import (
	"os"
	"testing"
	"time"

	"adt/provider/providertest"
)

func TestConformance(t *testing.T) {
	stalled := func(t *testing.T, cloud *Cloud) *Cloud {
		return cloud.another(t, func(c *Config) { c.Latency = time.Hour })
	}
	t.Run("servers", func(t *testing.T) {
		providertest.Servers(t, func(t *testing.T) providertest.ServersHarness {
			cloud := newCloud(t, Config{Boot: time.Hour})
			return providertest.ServersHarness{
				Servers: cloud, Stalled: stalled(t, cloud), Many: 12,
				UserData: func(t *testing.T, id string) []byte {
					data, err := os.ReadFile(cloud.server(id, userDataFile))
					if err != nil {
						t.Fatal(err)
					}
					return data
				},
			}
		})
	})
	t.Run("DNS", func(t *testing.T) {
		providertest.DNS(t, func(t *testing.T) providertest.DNSHarness {
			cloud := newCloud(t, Config{})
			return providertest.DNSHarness{DNS: cloud, Stalled: stalled(t, cloud), Zone: "example.com", Many: 30}
		})
	})
	t.Run("allow list", func(t *testing.T) {
		providertest.AllowList(t, func(t *testing.T) providertest.AllowListHarness {
			cloud := newCloud(t, Config{})
			return providertest.AllowListHarness{List: cloud, Stalled: stalled(t, cloud)}
		})
	})
}
