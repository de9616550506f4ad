package cloudinit

import (
	"fmt"
	"io/fs"
)

// SiteLimit is how long the files of a site may be together, in bytes: half of
// what user data may hold.
const SiteLimit = Limit / 2

// ReadSite reads the files of a website, all those below a folder.
func ReadSite(folder fs.FS) (map[string][]byte, error) {
	site, size := map[string][]byte{}, 0
	err := fs.WalkDir(folder, ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is no plain file", path)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Size() > SiteLimit { // before it is read
			return fmt.Errorf("%s has %d bytes, the whole site may have %d: fetch it with a command to run", path, info.Size(), SiteLimit)
		}
		content, err := fs.ReadFile(folder, path)
		if err != nil {
			return err
		}
		if size += len(content); size > SiteLimit {
			return fmt.Errorf("more than %d bytes in all: fetch the site with a command to run", SiteLimit)
		}
		site[path] = content
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the site: %w", err)
	}
	return site, nil
}
