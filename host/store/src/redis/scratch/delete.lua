-- Forgets the value under a key. ARGV: the key.
settle()
forget(ARGV[1])
return 1
