"""Skills as every part of Zaki knows them: names, digests, what is kept, the operator's rules, recalls, locks."""
