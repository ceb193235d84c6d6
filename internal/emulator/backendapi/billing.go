package backendapi

import (
	"strings"

	"github.com/rollcall-dev/rollcall/internal/emulator/state"
)

func getUserSubscription(r *request) (any, error) {
	u, err := r.user()
	if err != nil {
		return nil, err
	}
	return r.subscriptionOf(u.ID)
}

func getOrganizationSubscription(r *request) (any, error) {
	org, err := r.organization()
	if err != nil {
		return nil, err
	}
	return r.subscriptionOf(org.ID)
}

func (r *request) subscriptionOf(payer string) (any, error) {
	if s := r.inst.SubscriptionOf(payer); s != nil {
		return r.inst.View(s), nil
	}
	return nil, errNotFound
}

func listSubscriptionItems(r *request) (any, error) {
	q := r.query()
	status := q.oneOf("status", state.BillingActive, state.BillingEnded, state.BillingPastDue, state.BillingUpcoming, "free_trial")
	payer, planID, query := q.oneOf("payer_type", "user", "org"), q.text("plan_id"), strings.ToLower(q.text("query"))
	free, _ := q.boolean("include_free")
	q.boolean("paginated") // always is
	p := q.page()
	if err := q.err(); err != nil {
		return nil, err
	}
	plans := map[string]*state.Plan{}
	for _, plan := range r.inst.Plans() {
		plans[plan.ID] = plan
	}
	found := where(r.inst.SubscriptionItems(), func(i *state.SubscriptionItem) bool {
		plan := plans[i.PlanID]
		return hasBillingStatus(i, status) && (planID == "" || i.PlanID == planID) &&
			(free || plan == nil || plan.Amount > 0) &&
			(payer == "" || plan != nil && plan.ForOrgs == (payer == "org")) &&
			(query == "" || contains(i.ID, query) || plan != nil && contains(plan.Name, query))
	})
	return paged(r, found, newestFirst[*state.SubscriptionItem](), p), nil
}

func hasBillingStatus(i *state.SubscriptionItem, status string) bool {
	switch status {
	case "":
		return true
	case "free_trial":
		return i.IsFreeTrial && i.Status == state.BillingActive
	default:
		return i.Status == status
	}
}

// cancelSubscriptionItem ends an item now or, as far as the emulator goes, says
// that it won't be renewed.
func cancelSubscriptionItem(r *request) (any, error) {
	q := r.query()
	now, _ := q.boolean("end_now")
	if err := q.err(); err != nil {
		return nil, err
	}
	status := state.BillingCanceled
	if now {
		status = state.BillingEnded
	}
	return r.show(r.inst.UpdateSubscriptionItemStatus(r.change(), r.PathValue("subscription_item_id"), status))
}
