package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Requirements are what a session has to have; all that are given. The zero
// value asks for nothing. They are data, so that a configuration can hold them.
type Requirements struct {
	SignedIn     bool   `yaml:"signed_in" json:"signed_in,omitempty"`       // implied by any other
	Organization bool   `yaml:"organization" json:"organization,omitempty"` // an active one; implied by Role and Permission
	Role         string `yaml:"role" json:"role,omitempty"`                 // org:admin; the org: may be left out
	Permission   string `yaml:"permission" json:"permission,omitempty"`     // org:invoices:read; the org: may be left out
	Feature      string `yaml:"feature" json:"feature,omitempty"`           // dashboard: anyone's; org:dashboard or user:dashboard
	Plan         string `yaml:"plan" json:"plan,omitempty"`                 // pro: anyone's; org:pro or user:pro
	// Reverification is Clerk's strict_mfa, strict, moderate or lax, or a level with
	// the age of it: second_factor:5m.
	Reverification string `yaml:"reverification" json:"reverification,omitempty"`
}

// Validate reports requirements that can't be met for a mistake in them.
func (r Requirements) Validate() error {
	for _, name := range []string{r.Feature, r.Plan} {
		scope, rest, cut := strings.Cut(name, ":")
		if cut && (rest == "" || !slices.Contains([]string{"o", "org", "organization", "u", "user"}, scope)) {
			return fmt.Errorf("auth: %q is no feature or plan: its name, or org: or user: before it", name)
		}
	}
	if p := r.Permission; p != "" && strings.Count(withPrefix(p), ":") != 2 {
		return fmt.Errorf("auth: %q is no permission: org:invoices:read", p)
	}
	if strings.HasPrefix(withPrefix(r.Permission), "org:sys_") {
		return fmt.Errorf("auth: %q is one of Clerk's own permissions, which no session token has: ask for a role, or for a permission of yours", r.Permission)
	}
	if r.Reverification != "" {
		_, err := ParseReverification(r.Reverification)
		return err
	}
	return nil
}

// None reports whether nothing is asked for.
func (r Requirements) None() bool { return r == Requirements{} }

// Check returns an [*Error] with the first requirement that a session doesn't
// meet; claims are nil where nobody is signed in.
func (r Requirements) Check(c *Claims) error {
	if r.None() {
		return nil
	}
	if c == nil {
		return refuse(CodeTokenMissing, "sign in first")
	}
	o := c.Organization
	switch {
	case (r.Organization || r.Role != "" || r.Permission != "") && o.ID == "":
		return lacking(CodeOrganizationRequired, "no organization is active: select one")
	case r.Role != "" && o.Role != withPrefix(r.Role):
		return lacking(CodeRoleRequired, "the role "+withPrefix(r.Role)+" is needed")
	case r.Permission != "" && !slices.Contains(o.Permissions, withPrefix(r.Permission)):
		return lacking(CodePermissionRequired, "the permission "+withPrefix(r.Permission)+" is needed")
	case r.Feature != "" && !c.Features.Has(r.Feature):
		return lacking(CodeFeatureRequired, "the feature "+r.Feature+" is needed")
	case r.Plan != "" && !c.Plans.Has(r.Plan):
		return lacking(CodePlanRequired, "the plan "+r.Plan+" is needed")
	case r.Reverification != "":
		return r.checkReverification(c)
	}
	return nil
}

func (r Requirements) checkReverification(c *Claims) error {
	needed, err := ParseReverification(r.Reverification)
	if err != nil {
		return err
	}
	if !needed.met(c.FactorAges) {
		e := lacking(CodeReverificationRequired, "verify again who you are")
		e.Reverification = &needed
		return e
	}
	return nil
}

// Reverification says how lately a user must have shown who they are.
type Reverification struct {
	Level string        // first_factor, second_factor or multi_factor (both)
	After time.Duration // whole minutes
}

// The levels of [Reverification]. Users without a second factor need the first
// only, whatever the level.
const (
	FirstFactor  = "first_factor"
	SecondFactor = "second_factor"
	MultiFactor  = "multi_factor"
)

// ParseReverification reads what [Requirements] have.
func ParseReverification(text string) (Reverification, error) {
	switch text {
	case "strict_mfa":
		return Reverification{MultiFactor, 10 * time.Minute}, nil
	case "strict":
		return Reverification{SecondFactor, 10 * time.Minute}, nil
	case "moderate":
		return Reverification{SecondFactor, time.Hour}, nil
	case "lax":
		return Reverification{SecondFactor, 24 * time.Hour}, nil
	}
	level, age, _ := strings.Cut(text, ":")
	after, err := time.ParseDuration(age)
	if err == nil && (after < time.Minute || after%time.Minute != 0) {
		err = errors.New("the age isn't in whole minutes")
	}
	if err != nil || !slices.Contains([]string{FirstFactor, SecondFactor, MultiFactor}, level) {
		return Reverification{}, fmt.Errorf("auth: %q is no reverification: strict_mfa, strict, moderate, lax, or a level and an age such as %s:5m", text, SecondFactor)
	}
	return Reverification{level, after}, nil
}

// met holds the ages of the factors, in minutes, against what is needed. An age
// of -1 is a factor that the user doesn't have.
func (r Reverification) met(ages *[2]int) bool {
	if ages == nil {
		return false
	}
	has := [2]bool{ages[0] >= 0, ages[1] >= 0}
	fresh := func(i int) bool { return has[i] && time.Duration(ages[i])*time.Minute < r.After }
	switch {
	case !has[1] || r.Level == FirstFactor:
		return fresh(0)
	case r.Level == SecondFactor:
		return fresh(1)
	}
	return fresh(0) && fresh(1)
}
