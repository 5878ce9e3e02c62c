from memlora_mlx.cli import main

main()
