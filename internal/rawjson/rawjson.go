// Package rawjson walks JSON text without decoding it: it checks a document in
// one pass, visits the members of an object as spans of the text, and reads
// single values. Ingest and the projection stand on it, since both need a few
// fields of a body that may be a megabyte long.
//
// Keys are compared exactly, unlike encoding/json's, and of two members with
// one name the visitor sees both, in order.
package rawjson

import (
	"bytes"
	"errors"
)

var (
	// ErrSyntax: the text is not one JSON value.
	ErrSyntax = errors.New("not JSON")
	// ErrTooDeep: arrays and objects are nested deeper than allowed.
	ErrTooDeep = errors.New("nested too deeply")
)

// Check reports whether text is exactly one JSON value, with arrays and
// objects nested at most maxDepth deep: nil, ErrSyntax or ErrTooDeep. It needs
// no stack of its own, so depth costs a byte a level. Bytes that are not UTF-8
// pass, as they do in encoding/json.
func Check(text []byte, maxDepth int) error {
	var room [64]byte
	c := checker{text: text, open: room[:0], max: maxDepth}
	return c.document()
}

type checker struct {
	text []byte
	at   int
	open []byte // '{' or '[', innermost last
	max  int
}

func (c *checker) document() error {
	for {
		closed, err := c.value()
		if err != nil {
			return err
		}
		if !closed {
			continue // a container was opened: its first value comes next
		}
		more, err := c.afterValue()
		if err != nil || !more {
			return err
		}
	}
}

// peek is the next byte that is not white space, 0 at the end.
func (c *checker) peek() byte {
	for c.at < len(c.text) {
		switch b := c.text[c.at]; b {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return b
		}
	}
	return 0
}

// value reads one value, or the opening of a container that is not empty;
// then closed is false.
func (c *checker) value() (closed bool, err error) {
	switch b := c.peek(); b {
	case '{':
		if err := c.push('{'); err != nil {
			return false, err
		}
		if c.peek() == '}' {
			c.pop()
			return true, nil
		}
		return false, c.key()
	case '[':
		if err := c.push('['); err != nil {
			return false, err
		}
		if c.peek() == ']' {
			c.pop()
			return true, nil
		}
		return false, nil
	case '"':
		return true, c.string()
	case 't':
		return true, c.literal("true")
	case 'f':
		return true, c.literal("false")
	case 'n':
		return true, c.literal("null")
	default:
		return true, c.number()
	}
}

// afterValue closes the containers that end here, and moves on to the next
// value; more is false at the end of the document.
func (c *checker) afterValue() (more bool, err error) {
	for {
		b := c.peek()
		if len(c.open) == 0 {
			if c.at < len(c.text) {
				return false, ErrSyntax
			}
			return false, nil
		}
		inObject := c.open[len(c.open)-1] == '{'
		switch {
		case b == ',':
			c.at++
			if inObject {
				return true, c.key()
			}
			return true, nil
		case b == '}' && inObject, b == ']' && !inObject:
			c.pop()
		default:
			return false, ErrSyntax
		}
	}
}

func (c *checker) push(b byte) error {
	if len(c.open) >= c.max {
		return ErrTooDeep
	}
	c.open = append(c.open, b)
	c.at++
	return nil
}

func (c *checker) pop() {
	c.open = c.open[:len(c.open)-1]
	c.at++
}

func (c *checker) key() error {
	if c.peek() != '"' {
		return ErrSyntax
	}
	if err := c.string(); err != nil {
		return err
	}
	if c.peek() != ':' {
		return ErrSyntax
	}
	c.at++
	return nil
}

func (c *checker) string() error {
	for i := c.at + 1; i < len(c.text); i++ {
		switch b := c.text[i]; {
		case b == '"':
			c.at = i + 1
			return nil
		case b < ' ':
			return ErrSyntax
		case b == '\\':
			i++
			if i == len(c.text) {
				return ErrSyntax
			}
			if c.text[i] == 'u' {
				if _, ok := hex4(c.text[i+1:]); !ok {
					return ErrSyntax
				}
				i += 4
			} else if bytes.IndexByte([]byte(`"\/bfnrt`), c.text[i]) < 0 {
				return ErrSyntax
			}
		}
	}
	return ErrSyntax
}

func (c *checker) literal(word string) error {
	if !bytes.HasPrefix(c.text[c.at:], []byte(word)) {
		return ErrSyntax
	}
	c.at += len(word)
	return nil
}

func (c *checker) digits() bool {
	from := c.at
	for c.at < len(c.text) && c.text[c.at] >= '0' && c.text[c.at] <= '9' {
		c.at++
	}
	return c.at > from
}

func (c *checker) has(chars string) bool {
	if c.at < len(c.text) && bytes.IndexByte([]byte(chars), c.text[c.at]) >= 0 {
		c.at++
		return true
	}
	return false
}

func (c *checker) number() error {
	c.has("-")
	if !c.has("0") && !c.digits() {
		return ErrSyntax
	}
	if c.has(".") && !c.digits() {
		return ErrSyntax
	}
	if c.has("eE") {
		c.has("+-")
		if !c.digits() {
			return ErrSyntax
		}
	}
	return nil
}

// hex4 reads the four digits of a \u escape.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
