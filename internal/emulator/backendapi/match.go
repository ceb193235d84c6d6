package backendapi

import "strings"

// contains reports whether s has part in it, whatever the case of either; part
// is in lower case already and not empty. Names are mostly ASCII, and a list may
// look at some 100,000 users, so those are compared without a copy.
func contains(s, part string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return strings.Contains(strings.ToLower(s), part)
		}
		if lower(s[i]) == part[0] && hasPrefixFold(s[i:], part) {
			return true
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
