package backendapi

import "strings"

// contains reports whether s has part in it, whatever the case of either; part
// is in lower case already. Names are mostly ASCII, and a list may look at some
// 100,000 users, so those are compared without a copy.
func contains(s, part string) bool {
	if len(s) < len(part) && isASCII(s) {
		return false
	}
	if !isASCII(s) {
		return strings.Contains(strings.ToLower(s), part)
	}
	for i := 0; i+len(part) <= len(s); i++ {
		if hasPrefixFold(s[i:], part) {
			return true
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
