package cloudinit

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// NewHostKey derives the SSH host key of the server with the name from a
// secret seed. The same seed and name give the same key, so a build killed
// between pinning its key and creating its server repeats with the key that is
// pinned. Whoever has the seed has every host key.
func NewHostKey(seed []byte, name string) (privatePEM string, public ssh.PublicKey, err error) {
	if len(seed) < 16 {
		return "", nil, errors.New("host key: the seed is shorter than 16 bytes")
	}
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte(name))
	private := ed25519.NewKeyFromSeed(mac.Sum(nil))
	public, err = ssh.NewPublicKey(private.Public())
	if err != nil {
		return "", nil, fmt.Errorf("host key of %s: %w", name, err)
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		return "", nil, fmt.Errorf("host key of %s: %w", name, err)
	}
	return string(pem.EncodeToMemory(block)), public, nil
}
