"""Work that takes several requests, as plans: a plan yields requests and is sent their results."""
