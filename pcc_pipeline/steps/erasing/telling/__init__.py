"""What an erasure says: plans, outcomes, the page of a certificate, in words for who has never seen MLflow."""
