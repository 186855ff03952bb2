# What tests/world/bed/settings.py says of the world, for the machines here.
{
  addresses = {
    internet = "10.213.77.2";
    tailnet = "10.213.77.3";
    server = "10.213.77.4";
    laptop = "10.213.77.5";
  };
  domain = "tail.example.test";
  loginHost = "headscale.example.test";
  loginServer = "https://headscale.example.test";
  nodeTimeout = "70s";
  appId = "Iv23liWORLDWORLD0001";
  baseImage = "devcontainers/base:ubuntu";
  # Where tailnet hands out the keys that it made; the driver has nobody who would carry them.
  introductions = 8090;
}
