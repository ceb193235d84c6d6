package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
)

const secretPrefix = "whsec_"

// key is what a signing secret stands for.
type key []byte

var errSecret = errors.New("a signing secret is whsec_ and base64, such as clerkemu makes when none is given")

func parseSecret(secret string) (key, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	k, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(k) == 0 {
		return nil, errSecret // it doesn't quote the secret
	}
	return k, nil
}

// sign makes a signature with each key: v1,<base64 of HMAC-SHA256 over
// id.seconds.body>, separated by spaces.
func sign(keys []key, id, seconds string, body []byte) string {
	var out []byte
	head := id + "." + seconds + "."
	for _, k := range keys {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(head))
		mac.Write(body)
		if out != nil {
			out = append(out, ' ')
		}
		out = append(out, "v1,"...)
		out = base64.StdEncoding.AppendEncode(out, mac.Sum(nil))
	}
	return string(out)
}

// stranger is a key that no endpoint has.
func stranger(keys []key) key {
	sum := sha256.Sum256(keys[0])
	return sum[:]
}

// randomFor is the source of chance for the nth thing: the same for a seed,
// whatever happens beside it.
func randomFor(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, mix(n))) }

// mix spreads neighbouring numbers (splitmix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ksuid makes the 27 letters of Svix's ids: seconds since KSUID's epoch and 16
// random bytes, in base 62. The milliseconds take part in what is random, so
// that an emulator started anew with its old seed makes new ids.
func ksuid(unixMilli int64, rng *rand.Rand) string {
	var b [20]byte
	binary.BigEndian.PutUint32(b[:], uint32(unixMilli/1000-1_400_000_000))
	binary.BigEndian.PutUint64(b[4:], rng.Uint64()^mix(uint64(unixMilli)))
	binary.BigEndian.PutUint64(b[12:], rng.Uint64())
	return encode(b)
}

func encode(b [20]byte) string {
	var parts [5]uint32
	for i := range parts {
		parts[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	var out [27]byte
	for i := len(out) - 1; i >= 0; i-- {
		var rest uint64
		for p := range parts {
			v := rest<<32 | uint64(parts[p])
			parts[p], rest = uint32(v/62), v%62
		}
		out[i] = base62[rest]
	}
	return string(out[:])
}
