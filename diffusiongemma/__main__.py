from diffusiongemma.cli import main

main()
