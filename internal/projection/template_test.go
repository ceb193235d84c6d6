package projection

import "testing"

func TestTemplate(t *testing.T) {
	t.Parallel()
	row := map[string]string{"id": "user_1", "email": "{a}@b.c", "instance_id": "ins_1"}
	for text, want := range map[string]string{
		"user:{id}":                 "user:user_1",
		"{id}{email}":               "user_1{a}@b.c",
		"{instance_id}:user:{id}:x": "ins_1:user:user_1:x",
		"all-users":                 "all-users",
		"user:{phone}":              "", // has none
	} {
		tpl, err := ParseTemplate(ByTable("users"), text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, ok := tpl.Render(func(f string) string { return row[f] })
		if ok && got != want || ok == (want == "") || tpl.String() != text {
			t.Errorf("%s: %q, %t from %s; want %q", text, got, ok, tpl, want)
		}
	}
	for text, want := range map[string]string{
		"":          "is empty",
		"user:{id":  "has a { without a }",
		"user:id}":  "has a } without a {",
		"u:{{id}}":  "names {{id}, which organization_domains doesn't have; it has affiliation_email_address, enrollment_mode, id, instance_id, name, organization_id",
		"u:{email}": "names {email}, which organization_domains doesn't have; it has affiliation_email_address, enrollment_mode, id, instance_id, name, organization_id",
		"{created_at}": "names {created_at}, which is no text; organization_domains has affiliation_email_address, enrollment_mode, id, " +
			"instance_id, name, organization_id",
	} {
		if _, err := ParseTemplate(ByTable("organization_domains"), text); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}
