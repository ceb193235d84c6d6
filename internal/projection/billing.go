package projection

// Columns of who pays: a user or an organization, the other id is null.
var (
	payingUser = Column{Name: "user_id", Type: ID, Path: "payer.user_id", Index: true, Doc: "who pays, if a user"}
	payingOrg  = Column{Name: "organization_id", Type: ID, Path: "payer.organization_id", Index: true, Doc: "who pays, if an organization"}
)

var payers = []Parent{{"users", "user_id"}, {"organizations", "organization_id"}}

// billing are subscriptions and payments.
var billing = []*Resource{
	{
		Table: "subscriptions", Object: "subscription", Doc: "what a user or an organization has subscribed to",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, csub_…"},
			payingUser, payingOrg,
			{Name: "payer_id", Type: ID, Path: "payer_id"},
			{Name: "status", Type: Text, Path: "status", Doc: "active, past_due, canceled, ended, abandoned, incomplete"},
			{Name: "active_at", Type: Timestamp, Path: "active_at"},
			{Name: "past_due_at", Type: Timestamp, Path: "past_due_at"},
			{Name: "canceled_at", Type: Timestamp, Path: "canceled_at"},
			{Name: "ended_at", Type: Timestamp, Path: "ended_at"},
			{Name: "latest_payment_id", Type: ID, Path: "latest_payment_id"},
			{Name: "payment_source_id", Type: ID, Path: "payment_source_id"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Parents: payers,
		Embeds:  []Embed{{Member: "items", Table: "subscription_items", ParentID: "subscription_id", Inherits: []string{"payer"}}},
		Omits:   map[string]string{"object": kindOf, "items": "rows of subscription_items"},
	},
	{
		Table: "subscription_items", Object: "subscriptionItem", Doc: "plans within a subscription",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id, csub_item_…"},
			{Name: "subscription_id", Type: ID, Path: "subscription_id", Index: true},
			payingUser, payingOrg,
			{Name: "status", Type: Text, Path: "status", Doc: "active, upcoming, past_due, canceled, ended, abandoned, expired, incomplete"},
			{Name: "is_free_trial", Type: Bool, Path: "is_free_trial"},
			{Name: "plan_id", Type: ID, Path: "plan_id", Index: true},
			{Name: "plan", Type: JSON, Path: "plan", Doc: "amounts in the currency's smallest unit"},
			{Name: "interval", Type: Text, Path: "interval", Doc: "month or annual"},
			{Name: "period_start", Type: Timestamp, Path: "period_start"},
			{Name: "period_end", Type: Timestamp, Path: "period_end", Doc: "null: without end"},
			{Name: "seats", Type: JSON, Path: "seats", Doc: "quantity; null in it: no limit"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Parents:  payers,
		Terminal: []string{"ended", "abandoned", "expired"},
		Omits:    map[string]string{"object": kindOf},
	},
	{
		Table: "payment_attempts", Object: "paymentAttempt", Doc: "payments that were tried",
		Columns: []Column{
			{Name: "id", Type: Text, Path: "id", Doc: "Clerk's id"},
			payingUser, payingOrg,
			{Name: "payment_id", Type: ID, Path: "payment_id"},
			{Name: "invoice_id", Type: ID, Path: "invoice_id"},
			{Name: "statement_id", Type: ID, Path: "statement_id"},
			{Name: "gateway_external_id", Type: ID, Path: "gateway_external_id", Doc: "the payment gateway's id"},
			{Name: "status", Type: Text, Path: "status", Doc: "pending, paid, failed"},
			{Name: "charge_type", Type: Text, Path: "charge_type", Doc: "checkout or recurring"},
			{Name: "billing_date", Type: Timestamp, Path: "billing_date"},
			{Name: "paid_at", Type: Timestamp, Path: "paid_at"},
			{Name: "failed_at", Type: Timestamp, Path: "failed_at"},
			{Name: "failed_reason", Type: JSON, Path: "failed_reason"},
			{Name: "totals", Type: JSON, Path: "totals", Doc: "amounts in the currency's smallest unit"},
			{Name: "payee", Type: JSON, Path: "payee", Doc: "your account with the payment gateway"},
			{Name: "payment_source", Type: JSON, Path: "payment_source", Personal: true, Doc: "the card's kind and last digits"},
			{Name: "subscription_items", Type: JSON, Path: "subscription_items", Personal: true, Doc: "as they were when this was charged"},
			{Name: "created_at", Type: Timestamp, Path: "created_at"},
			{Name: "updated_at", Type: Timestamp, Path: "updated_at"},
		},
		Parents: payers,
		Omits:   map[string]string{"instance_id": "every row has it"},
	},
}
