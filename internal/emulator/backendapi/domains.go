package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

// enrollmentModes are how a domain's users come into the organization.
var enrollmentModes = []string{"manual_invitation", "automatic_invitation", "automatic_suggestion", "enterprise_sso"}

var domainOrders = orders[*state.OrganizationDomain]{
	"created_at": nil,
	"name":       func(v *state.OrganizationDomain) sortKey { return sortKey{text: v.Name} },
}

// A domainFilter is what both lists of domains can ask.
type domainFilter struct {
	verified, verifiedGiven bool
	modes                   choice
}

func readDomainFilter(q *query) (f domainFilter) {
	f.verified, f.verifiedGiven = q.boolean("verified")
	f.modes = q.someOf("enrollment_mode", enrollmentModes...)
	return f
}

func (f domainFilter) matches(d *state.OrganizationDomain) bool {
	verified := d.Verification != nil && d.Verification.Status == "verified"
	return (!f.verifiedGiven || verified == f.verified) && f.modes.allows(d.EnrollmentMode)
}

func listAllDomains(r *request) (any, error) {
	q := r.query()
	f, org, names := readDomainFilter(q), q.text("organization_id"), lowered(q.set("domains"))
	query := strings.ToLower(q.text("query"))
	if q.values.Has("query") && strings.TrimSpace(query) == "" {
		q.reject(formValue("query", q.text("query")))
	}
	o, p := readOrder(q, domainOrders), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	found := where(r.inst.Domains(), func(d *state.OrganizationDomain) bool {
		return f.matches(d) && (org == "" || d.OrganizationID == org) && names.allows(strings.ToLower(d.Name)) &&
			(query == "" || matchesDomain(d, query))
	})
	return paged(r, found, o, p), nil
}

func matchesDomain(d *state.OrganizationDomain, query string) bool {
	if strings.HasPrefix(query, "org_") {
		return strings.EqualFold(d.OrganizationID, query)
	}
	return contains(d.Name, query)
}

func listDomains(r *request) (any, error) {
	q := r.query()
	f, p := readDomainFilter(q), q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	found := where(r.inst.Domains(), func(d *state.OrganizationDomain) bool {
		return d.OrganizationID == org.ID && f.matches(d)
	})
	return paged(r, found, newestFirst[*state.OrganizationDomain](), p), nil
}

// domain is the one of the path.
func (r *request) domain() (*state.OrganizationDomain, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	id := r.PathValue("domain_id")
	if d := r.inst.Domain(id); d != nil && d.OrganizationID == org.ID {
		return d, nil
	}
	return nil, state.NotFound("organization domain", id)
}

func createDomain(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.DomainParams{
		Name:           b.required("name"),
		EnrollmentMode: b.oneOf("enrollment_mode", enrollmentModes...).value,
		Verified:       b.boolean("verified").or(true),
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	p.OrganizationID = org.ID
	return r.show(r.inst.CreateDomain(r.change(), p))
}

func updateDomain(r *request) (any, error) {
	b, err := r.object()
	if err != nil {
		return nil, err
	}
	p := state.DomainUpdate{
		EnrollmentMode: b.oneOf("enrollment_mode", enrollmentModes...).pointer(),
		Verified:       b.boolean("verified").pointer(),
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	d, err := r.domain()
	if err != nil {
		return nil, err
	}
	return r.show(r.inst.UpdateDomain(r.change(), d.ID, p))
}

func deleteDomain(r *request) (any, error) {
	d, err := r.domain()
	if err != nil {
		return nil, err
	}
	if _, err := r.inst.DeleteDomain(r.change(), d.ID); err != nil {
		return nil, err
	}
	return deleted{Object: "organization_domain", ID: d.ID, Deleted: true}, nil
}
