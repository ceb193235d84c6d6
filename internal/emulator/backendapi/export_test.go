package backendapi

// Operations are those that are served, as "GET /users/{user_id}".
func Operations() []string {
	operations := make([]string, len(routes))
	for i, r := range routes {
		operations[i] = r.method + " " + r.pattern
	}
	return operations
}
