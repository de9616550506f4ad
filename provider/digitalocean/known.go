package digitalocean

import (
	"slices"
	"sync"

	"adt/provider"
)

// knownRecords are the A records by name, as this run has last seen or made
// them: so that each record that is added is not looked up again.
type knownRecords struct {
	mu     sync.Mutex
	byName map[string][]provider.Record
}

func (k *knownRecords) get(name string) (records []provider.Record, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	records, known = k.byName[name]
	return slices.Clone(records), known
}

func (k *knownRecords) set(name string, records []provider.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byName == nil {
		k.byName = map[string][]provider.Record{}
	}
	k.byName[name] = slices.Clone(records)
}

// forget is for a name about which nothing is sure any more.
func (k *knownRecords) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byName, name)
}

func (k *knownRecords) remove(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, records := range k.byName {
		k.byName[name] = slices.DeleteFunc(records, func(r provider.Record) bool { return r.ID == id })
	}
}
