package rawjson

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions below take text that Check has accepted; of other text they
// make no sense, but they end.

// Kind is the first byte of a value: '{', '[', '"', 't', 'f', 'n', '-' for any
// number, or 0 for no value at all.
func Kind(value []byte) byte {
	value = trim(value)
	if len(value) == 0 {
		return 0
	}
	if c := value[0]; c < '0' || c > '9' {
		return c
	}
	return '-'
}

// IsNull reports whether there is no value, or null.
func IsNull(value []byte) bool {
	k := Kind(value)
	return k == 0 || k == 'n'
}

// Members visits the members of an object in order. The key is unescaped; the
// value is a span of object, without white space around it. Where object is
// not an object, nothing is visited.
func Members(object []byte, visit func(key, value []byte)) {
	object = trim(object)
	if len(object) > 0 && object[0] == '{' {
		members(object, 0, visit, "", nil)
	}
}

// MembersWithin is Members, and where the member of that name is an object its
// members are visited too, in the same pass and before itself.
func MembersWithin(object []byte, visit func(key, value []byte), name string, inner func(key, value []byte)) {
	object = trim(object)
	if len(object) > 0 && object[0] == '{' {
		members(object, 0, visit, name, inner)
	}
}

// members walks the object that begins at at, and returns its end.
func members(text []byte, at int, visit func(key, value []byte), name string, inner func(key, value []byte)) int {
	for {
		at = space(text, at+1)
		if at >= len(text) || text[at] != '"' {
			return min(at+1, len(text))
		}
		end := skip(text, at)
		key := unescapedKey(text[at:end])
		at = space(text, end)
		if at >= len(text) || text[at] != ':' {
			return len(text)
		}
		at = space(text, at+1)
		if inner != nil && at < len(text) && text[at] == '{' && string(key) == name {
			end = members(text, at, inner, "", nil)
		} else {
			end = skip(text, at)
		}
		if end == at {
			return len(text)
		}
		visit(key, text[at:end])
		at = space(text, end)
		if at >= len(text) || text[at] != ',' {
			return min(at+1, len(text))
		}
	}
}

// Elements visits the elements of an array in order.
func Elements(array []byte, visit func(value []byte)) {
	array = trim(array)
	if len(array) == 0 || array[0] != '[' {
		return
	}
	for at := 1; ; {
		at = space(array, at)
		if at >= len(array) || array[at] == ']' {
			return
		}
		end := skip(array, at)
		if end == at {
			return
		}
		visit(array[at:end])
		at = space(array, end)
		if at >= len(array) || array[at] != ',' {
			return
		}
		at++
	}
}

// Member is the value of the last member with that name, nil where there is
// none.
func Member(object []byte, name string) (found []byte) {
	Members(object, func(key, value []byte) {
		if string(key) == name {
			found = value
		}
	})
	return found
}

// Text is what a string says; ok is false for any other value. Lone surrogates
// and bytes that are not UTF-8 become U+FFFD.
func Text(value []byte) (s string, ok bool) {
	b, ok := TextBytes(value)
	return string(b), ok
}

// TextBytes is Text without a copy where the text stands in value as it is: the
// bytes may be a part of value.
func TextBytes(value []byte) (b []byte, ok bool) {
	value = trim(value)
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner, true
	}
	return unescape(inner), true
}

// Int is a number's value; ok is false for any other value, for fractions and
// beyond 64 bits. 1e3 is a whole number too.
func Int(value []byte) (n int64, ok bool) {
	if Kind(value) != '-' {
		return 0, false
	}
	text := string(trim(value))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	if !strings.ContainsAny(text, ".eE") {
		return 0, false // beyond 64 bits
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int64(f)) || f >= 1<<63 || f < -1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Offset is where span begins in text, of which it is a part.
func Offset(text, span []byte) int { return cap(text) - cap(span) }

func trim(value []byte) []byte {
	from := space(value, 0)
	to := len(value)
	for to > from && isSpace(value[to-1]) {
		to--
	}
	return value[from:to]
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func space(text []byte, at int) int {
	for at < len(text) && isSpace(text[at]) {
		at++
	}
	return at
}

// skip is the end of the value that begins at at.
func skip(text []byte, at int) int {
	if at >= len(text) {
		return at
	}
	switch text[at] {
	case '"':
		return skipString(text, at)
	case '{', '[':
		return skipContainer(text, at)
	}
	for at < len(text) {
		switch text[at] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return at
		}
		at++
	}
	return at
}

func skipString(text []byte, at int) int {
	for i := at + 1; i < len(text); i++ {
		next := bytes.IndexByte(text[i:], '"')
		if next < 0 {
			return len(text)
		}
		i += next
		backslashes := 0
		for text[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i + 1
		}
	}
	return len(text)
}

func skipContainer(text []byte, at int) int {
	depth := 0
	for at < len(text) {
		switch text[at] {
		case '"':
			at = skipString(text, at)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
		at++
	}
	return at
}

func unescapedKey(quoted []byte) []byte {
	if len(quoted) < 2 { // the text ends here
		return nil
	}
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return unescape(inner)
}

// unescape decodes a string's inside.
func unescape(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		c := s[0]
		switch {
		case c == '\\' && len(s) > 1 && s[1] == 'u':
			r, n := escapedRune(s)
			out = utf8.AppendRune(out, r)
			s = s[n:]
		case c == '\\' && len(s) > 1:
			out = append(out, simpleEscape(s[1]))
			s = s[2:]
		case c < utf8.RuneSelf:
			out = append(out, c)
			s = s[1:]
		default:
			r, n := utf8.DecodeRune(s) // U+FFFD for a byte that is not UTF-8
			out = utf8.AppendRune(out, r)
			s = s[n:]
		}
	}
	return out
}

func simpleEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // " \ /
}

// escapedRune decodes the \u escape that s begins with, a surrogate pair
// included, and says how many bytes it took.
func escapedRune(s []byte) (rune, int) {
	r, ok := hex4(s[2:])
	if !ok {
		return utf8.RuneError, len(s)
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		if low, ok := hex4(s[8:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
	}
	return utf8.RuneError, 6
}
