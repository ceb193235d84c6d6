package rawjson

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Postgres stores neither U+0000 nor lone surrogates, in text or in jsonb, nor
// bytes that are not UTF-8. All become U+FFFD.

// StorableText makes a string storable, and counts what it replaced. Lone
// surrogates were replaced by Text already and aren't counted.
func StorableText(s string) (string, int) {
	n := strings.Count(s, "\x00")
	if n == 0 {
		return s, 0
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD"), n
}

// Storable makes JSON text storable as jsonb, and counts what it replaced. The
// text itself is returned where nothing has to be.
func Storable(value []byte) ([]byte, int) {
	if bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value) {
		return value, 0
	}
	var out []byte // made at the first replacement
	n, kept := 0, 0
	replace := func(from, to int) {
		out = append(append(out, value[kept:from]...), "\uFFFD"...)
		kept = to
		n++
	}
	for i := 0; i < len(value); {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value) && value[i+1] == 'u':
			r, width := escapedRune(value[i:])
			// An escape that spells U+FFFD itself is replaced by the same.
			if r == 0 || r == utf8.RuneError {
				replace(i, i+width)
			}
			i += width
		case c == '\\':
			i += 2
		case c < utf8.RuneSelf:
			i++
		default:
			r, width := utf8.DecodeRune(value[i:])
			if r == utf8.RuneError && width == 1 {
				replace(i, i+1)
			}
			i += width
		}
	}
	if n == 0 {
		return value, 0
	}
	return append(out, value[kept:]...), n
}
