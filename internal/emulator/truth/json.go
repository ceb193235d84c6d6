package truth

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// All values, Clerk's and the store's, are brought to one canonical JSON before
// they are compared: members in order, numbers in one form, exact however long,
// text without what Postgres can't hold. The scanners here take valid JSON only:
// a json.Decoder's or Postgres'.

// object is the members of a JSON object, in their order.
type object []member

type member struct{ name, value []byte } // the name with its quotes

func readObject(raw []byte) object {
	var o object
	o.read(raw)
	return o
}

// read takes another object's members, in the memory of those before.
func (o *object) read(raw []byte) {
	*o = (*o)[:0]
	if len(raw) == 0 || raw[0] != '{' {
		return
	}
	for i := skipSpace(raw, 1); raw[i] != '}'; {
		end := skipValue(raw, i)
		name := raw[i:end]
		start := skipSpace(raw, skipSpace(raw, end)+1) // over the colon
		end = skipValue(raw, start)
		*o = append(*o, member{name, raw[start:end]})
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
}

// at is the value at a path with dots between names; nil where there is none. Of
// members of one name the last counts.
func (o object) at(path string) []byte {
	name, rest, deeper := strings.Cut(path, ".")
	for _, m := range slices.Backward(o) {
		if named(m.name, name) {
			if deeper {
				return readObject(m.value).at(rest)
			}
			return m.value
		}
	}
	return nil
}

// text is the text at a path; "" where there is none.
func (o object) text(path string) string {
	if v := o.at(path); len(v) > 0 && v[0] == '"' {
		return unquote(v)
	}
	return ""
}

func named(quoted []byte, name string) bool {
	if inner := quoted[1 : len(quoted)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner) == name
	}
	return unquote(quoted) == name
}

// elements calls each for every element of an array; for none of anything else.
func elements(raw []byte, each func([]byte)) {
	if len(raw) == 0 || raw[0] != '[' {
		return
	}
	for i := skipSpace(raw, 1); raw[i] != ']'; {
		end := skipValue(raw, i)
		each(raw[i:end])
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue is the place after the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case ',', ']', '}', ' ', '\n', '\t', '\r':
			return i
		}
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote is a string's text. Postgres holds neither U+0000 nor half a surrogate
// pair: both are U+FFFD.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return strings.ToValidUTF8(string(inner), "\uFFFD")
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return string(inner) // can't be: the JSON is valid
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

func isNull(raw []byte) bool { return len(raw) == 0 || raw[0] == 'n' }

// appendCanonical appends a value's canonical form; that of nothing is null.
func appendCanonical(dst, raw []byte) []byte {
	if isNull(raw) {
		return append(dst, "null"...)
	}
	switch raw[0] {
	case '{':
		return appendObject(dst, raw)
	case '[':
		dst = append(dst, '[')
		first := true
		elements(raw, func(element []byte) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendCanonical(dst, element)
		})
		return append(dst, ']')
	case '"':
		return appendText(dst, unquote(raw))
	case 't', 'f':
		return append(dst, raw...)
	}
	return appendNumber(dst, string(raw))
}

func appendObject(dst, raw []byte) []byte {
	type named struct {
		name  string
		value []byte
	}
	var all []named
	for _, m := range readObject(raw) {
		all = append(all, named{unquote(m.name), m.value})
	}
	slices.SortStableFunc(all, func(a, b named) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	first := true
	for i, m := range all {
		if i+1 < len(all) && all[i+1].name == m.name {
			continue // the last of one name counts
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendText(dst, m.name), ':')
		dst = appendCanonical(dst, m.value)
	}
	return append(dst, '}')
}

func appendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// appendNumber writes equal numbers alike: 1e3, 1000 and 1000.0 are 1000. No
// digit is lost.
func appendNumber(dst []byte, number string) []byte {
	unsigned, negative := strings.CutPrefix(number, "-")
	mantissa, power := unsigned, 0
	if i := strings.IndexAny(unsigned, "eE"); i >= 0 {
		var err error
		if power, err = strconv.Atoi(strings.TrimPrefix(unsigned[i+1:], "+")); err != nil {
			return append(dst, number...) // beyond what Postgres can hold
		}
		mantissa = unsigned[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	power -= len(fraction)
	significant := strings.TrimRight(digits, "0")
	power += len(digits) - len(significant)
	if significant == "" {
		return append(dst, '0')
	}
	if negative {
		dst = append(dst, '-')
	}
	point := len(significant) + power // digits before the point
	switch {
	case power >= 0 && point <= 400:
		dst = append(dst, significant...)
		return append(dst, strings.Repeat("0", power)...)
	case power < 0 && point > 0:
		return append(append(append(dst, significant[:point]...), '.'), significant[point:]...)
	case power < 0 && point > -400:
		return append(append(append(dst, "0."...), strings.Repeat("0", -point)...), significant...)
	}
	return strconv.AppendInt(append(append(dst, significant...), 'e'), int64(power), 10)
}

// appendMillis writes a time in Unix milliseconds.
func appendMillis(dst []byte, micros int64) []byte {
	if micros%1000 == 0 {
		return strconv.AppendInt(dst, micros/1000, 10)
	}
	return appendNumber(dst, strconv.FormatInt(micros, 10)+"e-3")
}
