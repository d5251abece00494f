"""What plain `pulumi` runs."""

from infra.program import main

main()
