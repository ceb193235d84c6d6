package auth

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Scoped are names of features or plans, by whose they are.
type Scoped struct {
	Organization, User []string
}

// Has reports whether one is among them: "dashboard" anyone's, "org:dashboard"
// the organization's, "user:dashboard" the user's.
func (s Scoped) Has(name string) bool {
	scope, rest, cut := strings.Cut(name, ":")
	if !cut {
		return slices.Contains(s.Organization, name) || slices.Contains(s.User, name)
	}
	switch scope {
	case "o", "org", "organization":
		return slices.Contains(s.Organization, rest)
	case "u", "user":
		return slices.Contains(s.User, rest)
	}
	return false
}

// scoped reads "o:dashboard,u:search,ou:export".
func scoped(claim string) (s Scoped) {
	for item := range items(claim) {
		scope, name, _ := strings.Cut(item, ":")
		if name == "" {
			continue
		}
		if ofOrganization(scope) {
			s.Organization = append(s.Organization, name)
		}
		if scope == "u" || scope == "ou" || scope == "uo" {
			s.User = append(s.User, name)
		}
	}
	return s
}

func ofOrganization(scope string) bool { return scope == "o" || scope == "ou" || scope == "uo" }

// items are what a claim lists, separated by commas.
func items(claim string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if claim == "" {
			return
		}
		for item := range strings.SplitSeq(claim, ",") {
			if !yield(strings.TrimSpace(item)) {
				return
			}
		}
	}
}

// permissions unpacks those of version 2: bit j of mask i says that feature i
// has action j. Masks count over all features, as Clerk's documentation has it,
// so those of the user have masks too, without a meaning. Masks may be longer
// than 64 bits; bits beyond the actions are ignored.
func permissions(features, actions, masks string) []string {
	if features == "" || actions == "" || masks == "" {
		return nil
	}
	names := slices.Collect(items(actions))
	all := slices.Collect(items(features))
	var found []string
	i := 0
	for mask := range items(masks) {
		if i >= len(all) {
			break
		}
		scope, feature, _ := strings.Cut(all[i], ":")
		i++
		if feature == "" || !ofOrganization(scope) {
			continue
		}
		bit := bits(mask)
		for j, action := range names {
			if action != "" && bit(j) {
				found = append(found, "org:"+feature+":"+action)
			}
		}
	}
	return found
}

// bits reads a decimal mask; what is none has no bit set.
func bits(decimal string) func(int) bool {
	if mask, err := strconv.ParseUint(decimal, 10, 64); err == nil {
		return func(j int) bool { return j < 64 && mask>>j&1 == 1 }
	}
	none := func(int) bool { return false }
	if strings.Trim(decimal, "0123456789") != "" || decimal == "" {
		return none
	}
	mask, ok := new(big.Int).SetString(decimal, 10)
	if !ok {
		return none
	}
	return func(j int) bool { return mask.Bit(j) == 1 }
}

// withPrefix is a role's or a permission's key as the Backend API has it; old
// and shortened ones lack the org:.
func withPrefix(key string) string {
	if key == "" || strings.HasPrefix(key, "org:") {
		return key
	}
	return "org:" + key
}
